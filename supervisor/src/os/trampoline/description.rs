//! What a trampoline is to do, as bytes: a core without I/O.
//!
//! Fields stand in one order, numbers are little-endian, strings and lists begin with their length (`u32`), an
//! option with 0 or 1. Both sides are the same program, so a version is only checked, never converted.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::thread::CpuSet;

use crate::StopSignal;
use crate::os::command_line::CommandLine;
use crate::os::settings::{Limit, Resource, Settings, User};

/// The most bytes of a description. The kernel takes 6 MiB of arguments and environment.
pub(in crate::os) const MAX_LEN: usize = 8 << 20;

/// The most descriptors at given numbers. The kernel takes 253 with one message, and three are for other things.
pub(in crate::os) const MAX_DESCRIPTORS: usize = 200;

/// What every description begins with; the last byte is the version.
const MAGIC: &[u8; 8] = b"clst-tr\x01";

/// What a trampoline is to do. Descriptors come beside it: the executable if it is pinned, stdin, stdout, and those
/// at given numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::os) struct Description {
    /// Who is waiting for the program to start.
    pub(in crate::os) parent: u32,
    /// Where the program is, if it isn't pinned.
    pub(in crate::os) by_path: Option<PathBuf>,
    pub(in crate::os) command: CommandLine,
    pub(in crate::os) settings: Settings,
    /// The numbers of further descriptors, each at least 3, each once.
    pub(in crate::os) numbers: Vec<u32>,
    /// Whether `LISTEN_PID` is to be set.
    pub(in crate::os) listens: bool,
}

/// A description that can't be followed, and what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Description {
    /// Why it can't be carried out, whoever tries.
    pub(in crate::os) fn fault(&self) -> Option<&'static str> {
        let settings = &self.settings;
        let mut numbers = self.numbers.clone();
        numbers.sort_unstable();
        let fault = [
            (numbers.len() > MAX_DESCRIPTORS, "it has more than 200 descriptors"),
            (numbers.first().is_some_and(|number| *number < 3), "numbers below 3 are for standard streams"),
            (
                numbers.last().is_some_and(|number| i32::try_from(*number).is_err()),
                "a descriptor's number is too high",
            ),
            (numbers.windows(2).any(|pair| pair[0] == pair[1]), "two descriptors have the same number"),
            (
                settings.user.as_ref().is_some_and(|user| !user.is_valid()),
                "4294967295 is no user and no group",
            ),
            (
                settings.cpus.iter().any(|cpu| *cpu as usize >= CpuSet::MAX_CPU),
                "a CPU's number is above 1023",
            ),
            (settings.nice.is_some_and(|nice| !(-20..=19).contains(&nice)), "nice goes from -20 to 19"),
            (settings.umask.is_some_and(|mask| mask > 0o777), "a umask has nine bits"),
            (
                settings.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)),
                "an OOM score adjustment goes from -1000 to 1000",
            ),
        ];
        fault.into_iter().find_map(|(is_so, what)| is_so.then_some(what))
    }

    /// The lowest number above those that the program gets.
    pub(super) fn first_unused(&self) -> i32 {
        let highest =
            self.numbers.iter().max().map_or(2, |highest| i32::try_from(*highest).unwrap_or(i32::MAX));
        highest.saturating_add(1)
    }

    /// As bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        out.number(self.parent);
        out.option(self.by_path.as_ref(), |out, path| out.string(path.as_os_str()));
        out.command(&self.command);
        out.settings(&self.settings);
        out.list(&self.numbers, |out, number| out.number(*number));
        out.0.push(self.listens.into());
        out.0
    }

    /// From bytes. Takes no more memory than a few times their length.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(bytes);
        if from.take(MAGIC.len())? != MAGIC {
            return Err(Malformed("it has another version"));
        }
        let description = Self {
            parent: from.number()?,
            by_path: from.option(|from| from.string().map(PathBuf::from))?,
            command: from.command()?,
            settings: from.settings()?,
            numbers: from.list(Reader::number)?,
            listens: from.flag()?,
        };
        if !from.0.is_empty() {
            return Err(Malformed("it goes on after its end"));
        }
        description.fault().map_or(Ok(description), |what| Err(Malformed(what)))
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn signed(&mut self, number: i32) {
        self.0.extend(number.to_le_bytes());
    }

    fn long(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    /// Lengths are far below 4 GiB: `launch` checks the whole. A longer one would be refused as malformed.
    fn length(&mut self, length: usize) {
        self.number(u32::try_from(length).unwrap_or(u32::MAX));
    }

    fn string(&mut self, string: &OsStr) {
        self.length(string.len());
        self.0.extend(string.as_bytes());
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.0.push(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn list<T>(&mut self, list: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.length(list.len());
        for item in list {
            write(self, item);
        }
    }

    fn command(&mut self, command: &CommandLine) {
        self.string(&command.arg0);
        self.list(&command.args, |out, arg| out.string(arg));
        self.0.push(command.clear_env.into());
        self.list(&command.env, |out, (key, value)| {
            out.string(key);
            out.option(value.as_ref(), |out, value| out.string(value));
        });
        self.option(command.directory.as_ref(), |out, directory| out.string(directory.as_os_str()));
    }

    fn settings(&mut self, settings: &Settings) {
        self.0.push(settings.session.into());
        self.option(settings.umask, Self::number);
        self.option(settings.nice, Self::signed);
        self.list(&settings.cpus, |out, cpu| out.number(*cpu));
        self.option(settings.oom_score_adj, Self::signed);
        self.list(&settings.limits, |out, limit| {
            out.0.push(limit.resource.code());
            out.long(limit.soft);
            out.long(limit.hard);
        });
        self.option(settings.user.as_ref(), |out, user| {
            out.number(user.uid);
            out.number(user.gid);
            out.list(&user.groups, |out, group| out.number(*group));
        });
        self.option(settings.death_signal, |out, signal| out.signed(signal.number()));
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Malformed("it is cut off"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Malformed("it is cut off"))?;
        self.0 = tail;
        Ok(*head)
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    fn signed(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_le_bytes)
    }

    fn long(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(Malformed("a flag is neither 0 nor 1")),
        }
    }

    fn string(&mut self) -> Result<OsString, Malformed> {
        let length = self.number()? as usize;
        Ok(OsString::from_vec(self.take(length)?.to_vec()))
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        // Grows with what is really there, whatever the length says.
        let length = self.number()?;
        let mut list = Vec::new();
        for _ in 0..length {
            list.push(read(self)?);
        }
        Ok(list)
    }

    fn command(&mut self) -> Result<CommandLine, Malformed> {
        Ok(CommandLine {
            arg0: self.string()?,
            args: self.list(Self::string)?,
            clear_env: self.flag()?,
            env: self.list(|from| Ok((from.string()?, from.option(Self::string)?)))?,
            directory: self.option(|from| from.string().map(PathBuf::from))?,
        })
    }

    fn settings(&mut self) -> Result<Settings, Malformed> {
        Ok(Settings {
            session: self.flag()?,
            umask: self.option(Self::number)?,
            nice: self.option(Self::signed)?,
            cpus: self.list(Self::number)?,
            oom_score_adj: self.option(Self::signed)?,
            limits: self.list(Self::limit)?,
            user: self.option(Self::user)?,
            death_signal: self.option(Self::signal)?,
        })
    }

    fn limit(&mut self) -> Result<Limit, Malformed> {
        let [code] = self.array()?;
        let resource = Resource::from_code(code).ok_or(Malformed("it limits an unknown resource"))?;
        Ok(Limit { resource, soft: self.long()?, hard: self.long()? })
    }

    fn user(&mut self) -> Result<User, Malformed> {
        Ok(User { uid: self.number()?, gid: self.number()?, groups: self.list(Self::number)? })
    }

    fn signal(&mut self) -> Result<StopSignal, Malformed> {
        let number = self.signed()?;
        let known = [StopSignal::Term, StopSignal::Kill];
        known
            .into_iter()
            .find(|signal| signal.number() == number)
            .ok_or(Malformed("its death signal is unknown"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn string() -> impl Strategy<Value = OsString> {
        vec(any::<u8>(), 0..20).prop_map(OsString::from_vec)
    }

    fn command() -> impl Strategy<Value = CommandLine> {
        let environment = vec((string(), option::of(string())), 0..4);
        let directory = option::of(string().prop_map(PathBuf::from));
        (string(), vec(string(), 0..4), any::<bool>(), environment, directory).prop_map(
            |(arg0, args, clear_env, env, directory)| CommandLine { arg0, args, clear_env, env, directory },
        )
    }

    fn settings() -> impl Strategy<Value = Settings> {
        let limit = (0..14u8, any::<u64>(), any::<u64>()).prop_map(|(code, soft, hard)| Limit {
            resource: Resource::from_code(code).unwrap(),
            soft,
            hard,
        });
        let id = 0..u32::MAX;
        let user =
            (id.clone(), id.clone(), vec(id, 0..5)).prop_map(|(uid, gid, groups)| User { uid, gid, groups });
        let signal = prop_oneof![Just(StopSignal::Term), Just(StopSignal::Kill)];
        (
            any::<bool>(),
            option::of(0..=0o777u32),
            option::of(-20..=19i32),
            vec(0..1024u32, 0..5),
            option::of(-1000..=1000i32),
            vec(limit, 0..4),
            option::of(user),
            option::of(signal),
        )
            .prop_map(|(session, umask, nice, cpus, oom_score_adj, limits, user, death_signal)| {
                Settings { session, umask, nice, cpus, oom_score_adj, limits, user, death_signal }
            })
    }

    fn description() -> impl Strategy<Value = Description> {
        let numbers = proptest::collection::btree_set(3..1000u32, 0..5);
        (any::<u32>(), option::of(string()), command(), settings(), numbers, any::<bool>()).prop_map(
            |(parent, by_path, command, settings, numbers, listens)| Description {
                parent,
                by_path: by_path.map(PathBuf::from),
                command,
                settings,
                numbers: numbers.into_iter().collect(),
                listens,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(description in description()) {
            prop_assert_eq!(Description::decode(&description.encode()), Ok(description));
        }

        #[test]
        fn every_cut_is_noticed(description in description(), cut in any::<prop::sample::Index>()) {
            let bytes = description.encode();
            prop_assert!(Description::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in vec(any::<u8>(), 0..300), valid_start in any::<bool>()) {
            if valid_start {
                bytes.splice(0..0, *MAGIC);
            }
            let _ = Description::decode(&bytes);
        }

        #[test]
        fn a_changed_byte_is_decoded_or_refused(
            description in description(),
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = description.encode();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let _ = Description::decode(&bytes);
        }
    }

    #[test]
    fn what_can_not_be_is_refused_with_its_reason() {
        let with = |change: fn(&mut Description)| {
            let mut description = Description::default();
            change(&mut description);
            Description::decode(&description.encode()).unwrap_err().0
        };
        assert_eq!(with(|d| d.numbers = vec![2]), "numbers below 3 are for standard streams");
        assert_eq!(with(|d| d.numbers = vec![4, 3, 4]), "two descriptors have the same number");
        assert_eq!(with(|d| d.numbers = (3..204).collect()), "it has more than 200 descriptors");
        assert_eq!(with(|d| d.numbers = vec![1 << 31]), "a descriptor's number is too high");
        assert_eq!(with(|d| d.settings.cpus = vec![1024]), "a CPU's number is above 1023");
        assert_eq!(with(|d| d.settings.nice = Some(20)), "nice goes from -20 to 19");
        assert_eq!(with(|d| d.settings.umask = Some(0o1000)), "a umask has nine bits");
        let user = |d: &mut Description| d.settings.user = Some(User::new(u32::MAX, 0));
        assert_eq!(with(user), "4294967295 is no user and no group");
        assert!(with(|d| d.settings.oom_score_adj = Some(1001)).starts_with("an OOM score"));
    }

    #[test]
    fn another_version_is_refused() {
        let mut bytes = Description::default().encode();
        bytes[7] += 1;
        assert_eq!(Description::decode(&bytes), Err(Malformed("it has another version")));
    }
}

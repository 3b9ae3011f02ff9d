//! What travels between the two processes, byte by byte: for a child in another language, and for the next version.
//!
//! The stream is a `SOCK_STREAM` Unix socket. Descriptors travel as `SCM_RIGHTS`. All numbers are little-endian and
//! unsigned.
//!
//! # Frames
//!
//! ```text
//!  0        4      5       6      7      8                16
//!  | len u32 | kind | flags | nfds | lane |     id u64      | payload (len bytes) …
//! ```
//!
//! * `len` doesn't count the header. A receiver refuses more than 1 MiB; a sender keeps to 16 KiB and a few bytes,
//!   the handshake excepted.
//! * `nfds` descriptors belong to the frame. They are attached to the write that **begins** with the frame's first byte, and to
//!   no other. A receiver queues descriptors as they come and gives each frame as many as its header says: which read they came
//!   with means nothing. At most 253.
//! * `flags`: 1 *must understand* (a receiver that doesn't know the kind ends the conversation; without it the
//!   frame is skipped and its descriptors are closed), 2 *more* (the message goes on in the next chunk), 4 *in
//!   memory* (the message is in the frame's last descriptor). Others are an error in a frame whose kind is known.
//! * `lane`: 0 control, 1 data. Order holds within a lane. A sender may put frames of the control lane between any two
//!   frames of the data lane.
//!
//! | kind | name | lane | id | payload |
//! |-----:|------|------|----|---------|
//! | 1 | Welcome | 0 | 0 | see below; descriptors allowed |
//! | 2 | Online | 0 | 0 | see below |
//! | 3 | Reject | 0 | 0 | why, in UTF-8, of which 4 KiB are read |
//! | 16 | Message | 0 or 1 | 0 | \[total u64 if *more* or *in memory*\] bytes |
//! | 17 | Request | 1 | caller's | patience u64, in µs, all ones: for ever; \[total u64 as above\] bytes |
//! | 18 | Reply | 1 | the request's | \[total u64 as above\] bytes |
//! | 19 | Chunk | 1 | the message's | the next bytes; *more* unless it is the last |
//! | 20 | Gap | 1 | how many messages of a broadcast are missing here | none |
//! | 21 | Finish | 1 | 0 | none: no Message, Request or Gap comes after this |
//! | 32 | Failure | 0 | the request's | code u8, then a reason in UTF-8 (at most 4 KiB) |
//! | 33 | Credit | 0 | what it is for: 0 control lane, 1 data lane, 2 replies | totals: bytes u64, messages u64, descriptors u64 |
//! | 34 | Blocked | 0 | the same | the totals that the sender waits for, as above |
//! | 35 | Cancel | 0, or 1 behind its request if that has not left yet | the request's | none |
//!
//! Failure codes: 0 the application's own error, 1 nobody handles such requests, 2 the request could not be decoded, 3 the
//! handler ended without an answer. A code that isn't known counts as 0.
//!
//! # Handshake
//!
//! The parent's first frame is a Welcome, written before the child exists; it sends nothing else until the child answers with
//! Online, or with Reject and the end of the stream.
//!
//! ```text
//!  Welcome: "CLst" | lowest version u16 | highest version u16 | pid of the parent u32 | settings | greeting …
//!  Online:  version u16 | settings | greeting …
//!  settings: count u8, then count × ( number u16 | value u64 )
//! ```
//!
//! | setting | what the sender of it takes |
//! |--------:|------|
//! | 1 | the largest message, in bytes |
//! | 2, 3, 4 | data lane: bytes, messages, descriptors on their way |
//! | 5, 6, 7 | control lane: the same |
//! | 8 | unanswered requests |
//! | 9 | the number of its application's set of messages |
//!
//! A setting that isn't there is 0: without 2 and 3 nothing may be sent. Numbers that aren't known are passed over. The version is 1.
//!
//! # Credit
//!
//! A Message, Request, Reply or Gap costs its bytes (all of them, also in chunks or memory; none for a Gap), one message, and its
//! descriptors (the memory's included). The sums of all that was ever sent in a lane may not exceed the totals last granted; in
//! the beginning those are the receiver's settings. Replies are not counted in their lane but by themselves, with the
//! settings of the data lane: who waits for one may be the one who keeps the messages before it. One exception: a message with more bytes than the whole window may
//! go when everything before it has been handled. Failure, Credit, Blocked, Cancel and Finish cost nothing.
//!
//! A receiver grants (window + what was handled) once more than half a window is new, or as soon as it reaches what a Blocked asks for.
//!
//! # Requests
//!
//! The caller chooses the id; it is free again when the answer has come: exactly one Reply or Failure for each Request, also
//! after a Cancel. A Cancel says that nobody waits any more; what the answer says doesn't matter then.
//!
//! # Memory
//!
//! A memfd, sealed against writing, shrinking, growing and further seals, of exactly `total` bytes. A receiver checks seals
//! and size before it maps it. (Who reads it instead: from offset 0, wherever the descriptor's own offset is.)
//!
//! # A child in another language
//!
//! The environment variable `CLUSTER_IPC_FD` is the number of the descriptor: 0 (stdin) unless the parent was told
//! otherwise. Reading from it waits. Read the Welcome, check that the pid in it is your parent's, answer Online with settings 1 to 3 at least (and 8 if you
//! take requests), send Credit as you handle messages. End when the stream ends. Close the descriptor in your own children. A
//! complete one with Python's standard library alone: `ipc/tests/child.py`.

//! A worker that tells what it was started with, and leaves when it is told to; and what the tests with it share.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use axum::routing::get;
use cluster::supervisor::{Backoff, Policy};
use cluster::{Builder, Cluster, Listen, Output, Worker, WorkerId};

use crate::{QUICK, apps, builder};

/// An environment variable that tests set.
pub(crate) const MARK: &str = "CLUSTER_TEST_MARK";

/// Writes down what it was started with, serves, and leaves as it is told to.
#[allow(clippy::print_stdout, reason = "what workers print is captured")]
pub(crate) async fn reporter(worker: Worker) {
    println!("worker {} is up", worker.id());
    let folder = PathBuf::from(std::env::var_os(apps::LEDGER).unwrap());
    let facts = folder.join(worker.id().to_string());
    let user = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let lines = [
        format!("cwd {}", std::env::current_dir().unwrap().display()),
        format!("args {}", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
        format!("mark {}", std::env::var(MARK).unwrap_or_default()),
        format!("exe {}", std::env::current_exe().unwrap().display()),
        format!("user {} {}", user.0, user.1),
        format!("worker {}", Cluster::is_worker()),
    ];
    std::fs::write(&facts, lines.join("\n")).unwrap();
    if let Some(extra) = worker.take_descriptor("extra") {
        assert!(worker.take_descriptor("extra").is_none(), "it is had once");
        answer_on(&UnixStream::from(extra), worker.id());
    }
    let (leaving, noted) = (worker.leaving(), folder.join(format!("{}.leaving", worker.id())));
    tokio::spawn(async move {
        leaving.await;
        std::fs::write(noted, "").unwrap();
    });
    serve(worker).await;
}

/// Answers what is asked on a socket, once.
fn answer_on(mut socket: &UnixStream, id: WorkerId) {
    let mut question = [0; 4];
    socket.read_exact(&mut question).unwrap();
    socket.write_all(format!("{} {id}\n", String::from_utf8_lossy(&question)).as_bytes()).unwrap();
}

async fn serve(worker: Worker) {
    let listen = std::env::var(apps::LISTEN).unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let address: std::net::SocketAddr = listen.parse().unwrap();
    let listener = worker.listen_on(Listen::tcp(address)).await.unwrap();
    let id = format!("{} {:?}", worker.id(), listener.mode());
    let (slow, leaves, exits) = (worker.clone(), worker.clone(), worker.clone());
    let app = axum::Router::new()
        .route("/", get(move || std::future::ready(id.clone())))
        .route("/slow", get(move || apps::slow(slow)))
        .route(
            "/leave",
            get(move || async move {
                leaves.disconnect().await;
                leaves.disconnect().await;
                "leaving"
            }),
        )
        .route("/exit", get(move || async move { exits.exit(42).await as &str }))
        .layer(worker.layer());
    axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await.unwrap();
}

/// Where workers write down what they were started with. Removed in the end.
pub(crate) struct Facts(PathBuf);

impl Facts {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("cluster-parity-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // Workers may be somebody else.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// One of them, of this worker.
    pub(crate) fn of(&self, id: WorkerId, fact: &str) -> String {
        let facts = std::fs::read_to_string(self.0.join(id.to_string())).unwrap();
        let line = facts.lines().find_map(|line| line.strip_prefix(fact)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {fact} in {facts}")).to_owned()
    }

    pub(crate) fn was_leaving(&self, id: WorkerId) -> bool {
        self.0.join(format!("{id}.leaving")).exists()
    }

    /// Settings for workers that write here.
    pub(crate) fn builder(&self) -> Builder {
        let policy = Policy::new().backoff(Backoff::new().base(QUICK).cap(QUICK * 10));
        builder("reporter").env(apps::LEDGER, self.path()).policy(policy).output(Output::discard())
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

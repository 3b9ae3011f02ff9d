//! Figures of all, from any.

use std::net::SocketAddr;

use rustix::process::Signal;

use crate::program::{Program, get};
use crate::support::{eventually, process};

/// The value of a series, as some worker has it.
fn scrape(address: SocketAddr, series: &str) -> Option<f64> {
    let text = get(address, "/metrics");
    assert!(text.ends_with("# EOF\n"), "{text}");
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

pub(crate) fn any_worker_serves_the_figures_of_all() {
    let program = Program::start("metrics", &["0"]);
    let address = program.wait_listening(4);
    let greet = |times: u32| -> Vec<String> { (0..times).map(|_| get(address, "/")).collect() };
    let answers = greet(40);
    // From whichever worker each scrape comes.
    for _ in 0..8 {
        eventually("all greetings", || {
            let greetings = scrape(address, "cluster_count_greetings_total")?;
            assert!(greetings <= 40.0, "{greetings}");
            (greetings == 40.0).then_some(())
        });
    }

    let pid: u32 = answers[0].trim_end().rsplit_once(' ').unwrap().1.parse().unwrap();
    process::signal(pid, Signal::KILL);
    eventually("its end", || (!process::is_alive(pid)).then_some(()));
    // Of a worker that was killed all counts too, and from the successor on it goes on.
    eventually("its successor", || {
        let greetings = scrape(address, "cluster_count_greetings_total")?;
        assert_eq!(greetings, 40.0, "it doesn't go back");
        (scrape(address, "cluster_workers{state=\"ready\"}") == Some(4.0)).then_some(())
    });
    greet(10);
    eventually("what was counted since", || {
        (scrape(address, "cluster_count_greetings_total") == Some(50.0)).then_some(())
    });
    program.stop();
}

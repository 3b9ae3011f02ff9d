//! What is simulated: workers, arrivals, service.

/// How the work of items differs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Service {
    Exponential,
    /// Log-normal with this sigma, mean 1: most items are short, a few very long.
    LogNormal(f64),
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// How fast each worker is.
    pub(crate) speeds: Vec<f64>,
    /// The part of all workers' capacity that arrives.
    pub(crate) load: f64,
    pub(crate) service: Service,
    /// Items that arrive together, on average.
    pub(crate) burst: f64,
    /// Each worker is ten times slower now and then: so often per service time, for so long.
    pub(crate) stalls: Option<(f64, f64)>,
}

impl Scenario {
    fn new(name: &'static str, workers: usize, load: f64) -> Self {
        Self {
            name,
            speeds: vec![1.0; workers],
            load,
            service: Service::Exponential,
            burst: 1.0,
            stalls: None,
        }
    }

    fn slow(mut self, workers: usize, speed: f64) -> Self {
        self.speeds.iter_mut().take(workers).for_each(|slow| *slow = speed);
        self
    }

    pub(crate) fn is_homogeneous(&self) -> bool {
        self.speeds.iter().all(|speed| *speed == 1.0) && self.stalls.is_none()
    }

    pub(crate) fn has_unequal_speeds(&self) -> bool {
        self.speeds.iter().any(|speed| *speed != 1.0)
    }
}

/// Those of the project's reference, and bursts.
pub(crate) fn all() -> Vec<Scenario> {
    let new = Scenario::new;
    let heavy = |name, workers| Scenario { service: Service::LogNormal(1.5), ..new(name, workers, 0.8) };
    vec![
        new("4 workers, load 0.7", 4, 0.7),
        new("4 workers, load 0.9", 4, 0.9),
        new("16 workers, load 0.7", 16, 0.7),
        new("16 workers, load 0.9", 16, 0.9),
        new("64 workers, load 0.7", 64, 0.7),
        new("64 workers, load 0.9", 64, 0.9),
        Scenario { burst: 8.0, ..new("16 workers, load 0.7, bursts of 8", 16, 0.7) },
        heavy("4 workers, load 0.8, heavy tail", 4),
        heavy("16 workers, load 0.8, heavy tail", 16),
        new("4 workers, load 0.8, one at half speed", 4, 0.8).slow(1, 0.5),
        new("16 workers, load 0.8, four at half speed", 16, 0.8).slow(4, 0.5),
        new("4 workers, load 0.7, one at a fifth", 4, 0.7).slow(1, 0.2),
        Scenario { stalls: Some((0.002, 20.0)), ..new("16 workers, load 0.7, stalls", 16, 0.7) },
    ]
}

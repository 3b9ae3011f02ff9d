//! One round after another; in each, everything is measured once, ours and its rival one after the other.

use crate::Result;
use crate::args::{Args, PAUSE};
use crate::cpus::Cpus;
use crate::figures::{Figures, What, durations, quantile};
use crate::order::{Order, RedisOrder};
use crate::reads::{Asking, ages};
use crate::server::Server;
use crate::team::Team;

/// Operations of a measurement.
const READS: u32 = 1_000_000;
const TRIPS: u32 = 5_000;
const PAUSED: u32 = 400;
const READ_PAUSED: u32 = 2000;
const PIPELINED: u32 = 200_000;
const JOINS: u32 = 10;

pub(crate) async fn measure(args: &Args) -> Result<Figures> {
    let redis = if args.wants_redis() { Server::start(args.keys()).await? } else { None };
    if args.wants_redis() && redis.is_none() {
        eprintln!("skipping Redis: there is no redis-server (apt-get install redis-server)");
    }
    let mut figures = Figures::new(redis.as_ref().map(|redis| redis.version.clone()));
    let run = Run { args, redis, cpus: Cpus::allowed()? };
    for round in 1..=args.rounds() {
        eprintln!("round {round} of {}", args.rounds());
        if args.wants_team("1") {
            run.one_worker(&mut figures, round % 2 == 0).await?;
        }
        if args.wants_team("4") {
            run.four_workers(&mut figures).await?;
        }
        if args.wants_team("8") {
            run.eight_workers(&mut figures, round % 2 == 0).await?;
        }
    }
    Ok(figures)
}

struct Run<'a> {
    args: &'a Args,
    redis: Option<Server>,
    cpus: Cpus,
}

impl Run<'_> {
    async fn team(&self, size: u64) -> Result<Team> {
        let redis = self.redis.as_ref().map(|redis| redis.socket.as_str());
        Team::start(size, redis, self.args.keys()).await
    }

    /// The primary and Redis on one CPU, and the first worker on that.
    async fn place(&self, team: &Team, worker: Option<usize>) -> Result<()> {
        let primary = worker.and_then(|_| self.cpus.nth(0));
        self.cpus.place(None, primary)?;
        if let Some(redis) = self.redis.as_ref().and_then(Server::pid) {
            self.cpus.place(Some(redis), primary)?;
        }
        team.first()?.ask(&Order::Place(worker)).await?;
        Ok(())
    }

    async fn one_worker(&self, figures: &mut Figures, redis_first: bool) -> Result<()> {
        let team = self.team(1).await?;
        self.place(&team, self.cpus.nth(1)).await?;
        let trips = self.args.count(TRIPS);
        let reads = self.args.count(READS);
        self.get(&team, figures, What::LocalGet, Order::Get(reads), f64::from(reads)).await?;
        self.redis(&team, figures, &[What::RedisGet], RedisOrder::Get(trips)).await?;
        // Warm, and in another order from round to round.
        team.first()?.ask(&Order::Write { count: trips / 10, pause: None }).await?;
        if redis_first {
            self.redis(&team, figures, &[What::RedisSet, What::RedisSetP99], RedisOrder::Set(trips)).await?;
        }
        let write = Order::Write { count: trips, pause: None };
        let bare = Order::PingPong { count: trips, pause: None };
        trip(&team, figures, &[What::Bare, What::BareP99], &bare).await?;
        trip(&team, figures, &[What::Acknowledged, What::AcknowledgedP99], &write).await?;
        if !redis_first {
            self.redis(&team, figures, &[What::RedisSet, What::RedisSetP99], RedisOrder::Set(trips)).await?;
        }
        let pipelined = self.args.count(PIPELINED);
        rate(&team, figures, What::Pipelined1, &Order::Pipelined(pipelined), pipelined).await?;
        if self.redis.is_some() {
            let order = Order::Redis(RedisOrder::Pipelined(pipelined));
            rate(&team, figures, What::RedisPipelined, &order, pipelined).await?;
        }
        let mut joins = Vec::new();
        for _ in 0..self.args.count(JOINS) {
            joins.extend(team.join().await?);
        }
        figures.add(What::Join, quantile(&durations(&joins), 0.5));
        if self.redis.is_some() {
            let mut loads = Vec::new();
            for _ in 0..self.args.count(JOINS) {
                loads.extend(team.first()?.ask(&Order::Redis(RedisOrder::GetAll)).await?);
            }
            figures.add(What::RedisGetAll, quantile(&durations(&loads), 0.5));
        }
        self.place(&team, self.cpus.nth(0)).await?;
        trip(&team, figures, &[What::BareOneCpu], &bare).await?;
        trip(&team, figures, &[What::AcknowledgedOneCpu], &write).await?;
        self.redis(&team, figures, &[What::RedisSetOneCpu], RedisOrder::Set(trips)).await?;
        self.place(&team, None).await
    }

    async fn four_workers(&self, figures: &mut Figures) -> Result<()> {
        let team = self.team(4).await?;
        let count = self.args.count(PIPELINED);
        rate(&team, figures, What::Pipelined4, &Order::Pipelined(count), count).await
    }

    /// Spread over all CPUs, as the scheduler likes.
    async fn eight_workers(&self, figures: &mut Figures, redis_first: bool) -> Result<()> {
        let team = self.team(8).await?;
        let count = self.args.count(PAUSED);
        if redis_first {
            self.redis_on_8(&team, figures, count).await?;
        }
        let bare = Order::PingPong { count, pause: Some(PAUSE) };
        trip(&team, figures, &[What::BarePaused], &bare).await?;
        team.listen(count).await?;
        let spoken = team.first()?.ask(&Order::Speak { count, pause: PAUSE }).await?;
        figures.add(What::SocketsOn8, quantile(&told(&team, &spoken).await?, 0.5));
        let spoken = team.say(count, PAUSE).await?;
        figures.add(What::ChannelsOn8, quantile(&told(&team, &spoken).await?, 0.5));
        team.all(&Order::Watch).await?;
        let written = team.first()?.ask(&Order::Write { count, pause: Some(PAUSE) }).await?;
        let told = told(&team, &written).await?;
        figures.add(What::AcknowledgedOf8, quantile(&durations(&written), 0.5));
        figures.add(What::ToldOn8, quantile(&told, 0.5));
        figures.add(What::ToldOn8P99, quantile(&told, 0.99));
        let (before, asking) = (team.revision(), Asking::start(&team).await?);
        let count = self.args.count(READ_PAUSED);
        let written = team.first()?.ask(&Order::Write { count, pause: Some(PAUSE) }).await?;
        drop(asking);
        let ages = ages(&written, before, &team.all(&Order::Seen).await?);
        figures.add(What::AcknowledgedAsleep, quantile(&durations(&written), 0.5));
        if let Some([half, most]) = ages {
            figures.add(What::ReadOn8, half);
            figures.add(What::ReadOnAll8, most);
        }
        if !redis_first {
            self.redis_on_8(&team, figures, count).await?;
        }
        Ok(())
    }

    async fn redis_on_8(&self, team: &Team, figures: &mut Figures, count: u32) -> Result<()> {
        if self.redis.is_none() {
            return Ok(());
        }
        team.all(&Order::Redis(RedisOrder::Subscribe(count))).await?;
        let publish = RedisOrder::Publish { count, pause: PAUSE };
        let written = team.first()?.ask(&Order::Redis(publish)).await?;
        let told = told(team, &written).await?;
        figures.add(What::RedisOn8, quantile(&told, 0.5));
        figures.add(What::RedisOn8P99, quantile(&told, 0.99));
        Ok(())
    }

    /// One stretch of many operations.
    async fn get(
        &self,
        team: &Team,
        figures: &mut Figures,
        what: What,
        order: Order,
        count: f64,
    ) -> Result<()> {
        let stamps = team.first()?.ask(&order).await?;
        figures.add(what, quantile(&durations(&stamps), 0.5) / count);
        Ok(())
    }

    async fn redis(
        &self,
        team: &Team,
        figures: &mut Figures,
        what: &[What],
        order: RedisOrder,
    ) -> Result<()> {
        if self.redis.is_none() {
            return Ok(());
        }
        trip(team, figures, what, &Order::Redis(order)).await
    }
}

/// The median of round trips, and if wanted the 99th percentile.
async fn trip(team: &Team, figures: &mut Figures, what: &[What], order: &Order) -> Result<()> {
    let trips = durations(&team.first()?.ask(order).await?);
    what.iter().zip([0.5, 0.99]).for_each(|(what, part)| figures.add(*what, quantile(&trips, part)));
    Ok(())
}

async fn rate(team: &Team, figures: &mut Figures, what: What, order: &Order, count: u32) -> Result<()> {
    let took = quantile(&durations(&team.first()?.ask(order).await?), 0.5);
    figures.add(what, f64::from(count) * 1e9 / took);
    Ok(())
}

/// From the begin of each write until the last worker was told.
async fn told(team: &Team, written: &[u64]) -> Result<Vec<f64>> {
    // The last one is on its way.
    tokio::time::sleep(50 * PAUSE).await;
    let seen = team.all(&Order::Seen).await?;
    if let Some(other) = seen.iter().find(|seen| seen.len() != written.len() / 2) {
        return Err(format!("a worker saw {} of {} writes", other.len(), written.len() / 2).into());
    }
    let begins = written.iter().step_by(2).enumerate();
    let last = |nth: usize| seen.iter().filter_map(|seen| seen.get(nth)).max().copied().unwrap_or_default();
    let mut told: Vec<f64> = begins.map(|(nth, begin)| last(nth).saturating_sub(*begin) as f64).collect();
    told.sort_unstable_by(f64::total_cmp);
    Ok(told)
}

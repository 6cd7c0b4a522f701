//! The benchmark: Callscope compared with the physical limit and with other servers, in one run on one machine.
//!
//! `tests/load/run` installs the peers and calls this program. A round runs each server of a shape once, one after the
//! other. A table shows the medians over the rounds, and the medians of the ratios within a round. The load generator
//! runs on the same machine. CPU time is that of the server's processes alone; throughput and delays also depend on the
//! generator.

#![allow(clippy::print_stdout, reason = "the tables go to stdout")]
#![allow(clippy::expect_used, clippy::cast_precision_loss, clippy::cast_sign_loss, clippy::cast_possible_truncation)]

mod bare;
mod message;
mod peer;
mod publisher;
mod route;
mod services;
mod shapes;
mod table;
mod watchers;

use std::time::Duration;

use clap::{Parser, ValueEnum};
use peer::Peer;
use services::Services;
use shapes::fanout::Fanout;
use shapes::{cluster, growth, idle, ingest, mixed, storm, strangers};
use table::{Sample, Table};

/// Measures Callscope beside its peers.
#[derive(Debug, Parser)]
#[command(name = "callscope-load")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run shapes of load and print their tables
    Run(Run),
    /// Serve as one of the small servers that Callscope is compared with
    Serve {
        #[arg(long)]
        port: u16,
        what: Peer,
    },
}

#[derive(Debug, clap::Args)]
struct Run {
    /// Shapes to run [default: all]
    #[arg(value_enum)]
    shapes: Vec<Shape>,
    /// Servers to run; the figures of the first are divided by those of each other
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Number of paired rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of load for each server in each round
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Number of calls, for the shape `own`
    #[arg(long, default_value_t = 1)]
    calls: u32,
    /// Subscribers of each call, for the shape `own`
    #[arg(long, default_value_t = 1000)]
    subscribers: u32,
    /// Turns a second, for the shape `own` [default: as fast as they are delivered]
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// One call, 1,000 subscribers, 50 turns a second
    W1Paced,
    /// One call, 1,000 subscribers, as fast as they are delivered
    W1Saturated,
    /// 1,000 calls of 3 subscribers, 1,000 turns a second
    W2Paced,
    /// 1,000 calls of 3 subscribers, as fast as they are delivered
    W2Saturated,
    /// 10,000 connections, little traffic
    W3,
    /// Webhooks without subscribers, 64 and 256 clients, SQLite
    W4,
    /// Webhooks without subscribers, 64 and 256 clients, PostgreSQL
    W4Postgres,
    /// Followers, resuming clients, stalled clients and webhooks at the same time
    W5,
    /// 5,000 clients resume a thousand events behind
    W6,
    /// Calls and subscribers by --calls, --subscribers and --rate; not run by default
    Own,
    /// Two servers connected by Redis
    W7,
    /// Webhooks while 5,000 sockets are idle, 2,000 watchers wait and 100 downloads are not read
    Strangers,
    /// Cost of a delivery from 10 to 10,000 subscribers, of a webhook from 10 to 100,000 calls
    Growth,
}

/// The servers that are compared if calls have subscribers.
const FANOUT_PEERS: &[Peer] =
    &[Peer::Callscope, Peer::BareBatched, Peer::BareSingle, Peer::Uws, Peer::Nats, Peer::Nchan, Peer::Ws, Peer::Fanout];

fn main() -> Result<(), String> {
    match Arguments::parse().command {
        Command::Serve { port, what: Peer::Route } => {
            rocket::async_main(route::run(port)).map_err(|error| error.to_string())
        }
        Command::Serve { port, what } => {
            let mode = if what == Peer::BareSingle { bare::WriteMode::Single } else { bare::WriteMode::Batched };
            bare::run(port, mode).map_err(|error| error.to_string())
        }
        Command::Run(run) => {
            raise_file_limit();
            run.run_shapes(&Services::new().map_err(|error| error.to_string())?);
            Ok(())
        }
    }
}

impl Run {
    fn run_shapes(&self, services: &Services) {
        let shapes: Vec<Shape> = match &self.shapes[..] {
            [] => Shape::value_variants().iter().copied().filter(|shape| *shape != Shape::Own).collect(),
            chosen => chosen.to_vec(),
        };
        for shape in shapes {
            for table in self.run_shape(shape, services) {
                println!("{}", table.markdown());
            }
        }
    }

    fn run_shape(&self, shape: Shape, services: &Services) -> Vec<Table> {
        let fanout = |topics, subscribers, rate| Fanout { topics, subscribers, rate, duration: self.duration() };
        match shape {
            Shape::W1Paced => {
                self.fanout("W1 paced: one call, 1,000 subscribers, 50 turns/s", fanout(1, 1000, Some(50.0)))
            }
            Shape::W1Saturated => self.fanout("W1 saturated: one call, 1,000 subscribers", fanout(1, 1000, None)),
            Shape::W2Paced => {
                self.fanout("W2 paced: 1,000 calls, 3 subscribers each, 1,000 turns/s", fanout(1000, 3, Some(1000.0)))
            }
            Shape::W2Saturated => self.fanout("W2 saturated: 1,000 calls, 3 subscribers each", fanout(1000, 3, None)),
            Shape::W3 => {
                let peers =
                    [Peer::Callscope, Peer::BareBatched, Peer::Uws, Peer::Nats, Peer::Nchan, Peer::Ws, Peer::Fanout];
                let sample = |peer| idle::sample(peer, 10_000, None);
                vec![self.table("W3: 10,000 connections", &["KB a connection"], &peers, sample)]
            }
            Shape::W4 => self.ingest(services, &[Peer::Callscope, Peer::Route, Peer::FastapiSqlite]),
            Shape::Own => {
                let Self { calls, subscribers, rate, .. } = self;
                let title = format!("{calls} calls, {subscribers} subscribers each, {rate:?} turns/s");
                self.fanout(&title, fanout(*calls, *subscribers, *rate))
            }
            Shape::W5 => vec![self.table("W5: everything at once", &[], &[Peer::Callscope], |peer| {
                mixed::sample(peer, self.duration() * 3, None)
            })],
            Shape::W6 => {
                vec![self.table("W6: 5,000 clients come back, 1,000 events behind", &[], &[Peer::Callscope], |peer| {
                    storm::sample(peer, 5_000, self.duration(), None)
                })]
            }
            Shape::W4Postgres => self.ingest(services, &[Peer::CallscopePostgres, Peer::FastapiPostgres]),
            Shape::W7 => vec![self.table("W7: two servers over Redis", &[], &[Peer::CallscopePostgres], |peer| {
                cluster::sample(peer, self.duration(), &services.create_database(), &services.redis_url())
            })],
            Shape::Strangers => vec![self.table(
                "Strangers: 5,000 idle sockets, 2,000 watchers, 100 unread downloads; 200 webhooks a second",
                &[],
                &[Peer::Callscope],
                |peer| strangers::sample(peer, self.duration() * 3),
            )],
            Shape::Growth => vec![
                self.table(
                    "Growth: CPU µs a delivery by subscribers of one call, paced",
                    &[],
                    &[Peer::Callscope, Peer::BareSingle],
                    |peer| growth::by_subscribers(peer, self.duration()),
                ),
                self.table("Growth: CPU µs a webhook by calls in the database", &[], &[Peer::Callscope], |peer| {
                    growth::by_calls(peer, self.duration())
                }),
            ],
        }
    }

    fn fanout(&self, title: &str, shape: Fanout) -> Vec<Table> {
        // With few subscribers, the webhook is most of a delivery's cost, so its share is shown separately.
        let has_few_subscribers = shape.subscribers < 100;
        let ratios: &[&str] = match has_few_subscribers {
            true => &["CPU µs a turn", "CPU µs a delivery, without ingest"],
            false => &["CPU µs a delivery"],
        };
        vec![self.table(title, ratios, FANOUT_PEERS, |peer| shape.sample(peer, None, has_few_subscribers))]
    }

    fn ingest(&self, services: &Services, peers: &[Peer]) -> Vec<Table> {
        let table = |clients| {
            let title = format!("W4: webhooks alone, {clients} clients");
            self.table(&title, &["acknowledged/s", "CPU µs a webhook"], peers, |peer| {
                let database = matches!(peer, Peer::CallscopePostgres | Peer::FastapiPostgres)
                    .then(|| (services.create_database(), services.postgres_pid().expect("the process starts")));
                ingest::sample(peer, clients, self.duration(), database.as_ref().map(|(url, pid)| (url.as_str(), *pid)))
            })
        };
        vec![table(64), table(256)]
    }

    fn table(
        &self,
        title: &str,
        ratios: &'static [&'static str],
        peers: &[Peer],
        sample: impl Fn(Peer) -> Sample,
    ) -> Table {
        let peers = if self.peers.is_empty() { peers } else { &self.peers };
        let mut table = Table { title: title.to_owned(), ratios, rounds: Vec::new() };
        for round in 1..=self.rounds {
            let samples = peers.iter().map(|peer| {
                let sample = sample(*peer);
                eprintln!("{title}, round {round}: {} {:?}", peer.name(), sample.figures);
                sample
            });
            table.rounds.push(samples.collect());
        }
        table
    }

    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Raises the limit of file descriptors, because each of ten thousand connections needs one at each end.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

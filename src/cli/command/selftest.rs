//! `agentmux selftest`: breaks starts of a relay at every step, in a scratch directory, and reports row by row.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::cli::context::Context;
use crate::cli::print;
use crate::client::selftest::{self, Options, Report, Status};
use crate::model::clock::parse_duration;
use crate::model::fault::Fault;

/// Arguments of `selftest`.
#[derive(Debug, Args)]
pub struct Selftest {
    /// Play so many rounds; without it each row once
    #[arg(long, value_name = "N", conflicts_with = "all")]
    rounds: Option<usize>,
    /// Break the start at every single system call, in every way (minutes)
    #[arg(long)]
    all: bool,
    /// Choose the calls by this number, as an earlier run did
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How much longer than a normal start the next command may take
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = duration)]
    patience: Duration,
    /// Clear up behind a selftest that has started this
    #[arg(long, hide = true, value_name = "DIR")]
    janitor: Option<PathBuf>,
}

pub fn run(context: &Context, args: &Selftest) -> Result<u8, Fault> {
    if let Some(dir) = &args.janitor {
        return selftest::janitor(dir).map(|()| 0);
    }
    let now =
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos()));
    let options = Options {
        rounds: args.rounds,
        all: args.all,
        seed: args.seed.unwrap_or_else(now),
        patience: args.patience,
    };
    let report = selftest::run(&options)?;
    context.print(&report, words);
    Ok(u8::from(report.overall_status == Status::Fail))
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map(Duration::from_millis).ok_or_else(|| "write it as 500ms or 2s".to_owned())
}

fn words(report: &Report) -> String {
    let heads = ["STATUS", "STEP", "FAULT", "ROUNDS", "DETAILS"].map(str::to_owned).to_vec();
    let rows = report.rows.iter().map(|row| {
        let rounds = row.rounds.to_string();
        vec![
            word(row.status).to_owned(),
            row.step.to_owned(),
            row.fault.to_owned(),
            rounds,
            print::safe(&row.details),
        ]
    });
    let table = print::table(&std::iter::once(heads).chain(rows).collect::<Vec<_>>());
    format!(
        "{table}\n{}: {} rounds (seed {}) over {} system calls; a start takes {} ms, the slowest next command took {} ms\n",
        word(report.overall_status),
        report.rounds,
        report.seed,
        report.boundaries,
        report.normal_start_ms,
        report.slowest_next_ms
    )
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Fail => "fail",
    }
}

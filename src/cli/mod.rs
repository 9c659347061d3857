//! The command line: one file per command, each with its arguments and a `run` that starts the runtime it needs.
//!
//! Owns the exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

pub mod backup;
pub mod bench;
pub mod check;
pub mod demo;
pub mod health;
mod logging;
pub mod migrate;
pub mod plugins;
pub mod repartition;
pub mod rig;
pub mod serve;
mod server_args;
pub mod stub;
pub mod tail;
pub mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::ConfigError;

/// A point-of-sale event processor: tills emit events, plugins act on them.
#[derive(Debug, Parser)]
#[command(name = "tillstream", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Bench(bench::BenchArgs),
    Backup(backup::BackupArgs),
    Check(check::CheckArgs),
    Migrate(migrate::MigrateArgs),
    Repartition(repartition::RepartitionArgs),
    Rig(rig::RigArgs),
    Serve(serve::ServeArgs),
    Health(health::HealthArgs),
    Stub(stub::StubArgs),
    Tail(tail::TailArgs),
    Plugins(plugins::PluginsArgs),
    Token(token::TokenArgs),
}

/// Wrong usage or configuration: the process ends with 2 instead of 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The command has said itself what is wrong; this is only its exit code.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
pub struct Failed(pub u8);

/// A [`UsageError`] as an `anyhow` error, to be returned by a command.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

/// Runs the command that the arguments name and says how it ended. Wrong arguments end the process with 2.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Repartition(args) => repartition::run(&args),
        Command::Rig(args) => rig::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Plugins(args) => plugins::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Stub(args) => stub::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(Failed(code)) = error.downcast_ref() {
                return ExitCode::from(*code);
            }
            print_error(&error);
            if error.chain().any(|cause| cause.is::<UsageError>() || cause.is::<ConfigError>()) {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place where a command's error reaches its user")]
fn print_error(error: &anyhow::Error) {
    eprintln!("error: {}", sentence(error));
}

/// The error with what caused it, as far as its text does not say so already.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        known if known.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

/// Completes at Ctrl-C or SIGTERM.
pub async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
            }
            Err(_) => {
                let _ = tokio::signal::ctrl_c().await;
            }
        }
    }
    #[cfg(not(unix))]
    {
        let _ = tokio::signal::ctrl_c().await;
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::app::StartError;
    use crate::bus::BusError;

    #[test]
    fn a_person_reads_each_cause_once() {
        let taken = StartError::Bus(BusError::Unavailable("the disk is full".to_owned()));
        let text = sentence(&anyhow::Error::from(taken).context("serve"));
        assert_eq!((text.starts_with("serve: bus: "), text.matches("the disk is full").count()), (true, 1), "{text}");
        let plain = Err::<(), _>(std::io::Error::other("no such file")).context("--labels");
        assert_eq!(sentence(&plain.unwrap_err()), "--labels: no such file");
    }
}

//! The project's own commands: `cargo xtask help` lists them.

#![forbid(unsafe_code)]

mod codegen;
mod compare;
mod examples;
mod golden;
mod golden_protocol;
mod instructions;
mod kafka;
mod shell;
mod sim;
mod soak;
mod test;
mod tidy;
mod wasm;

use std::process::ExitCode;

/// What a command answers; the error is for a person to read.
type Result<T = ()> = std::result::Result<T, String>;

struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result,
}

const COMMANDS: &[Command] = &[
    Command { name: "test", about: "everything CI runs [STEP ..] [--keep-going]", run: test::run },
    Command {
        name: "soak",
        about: "the long runs, resumable [RUN ..] [--list] [--fresh]",
        run: soak::run,
    },
    Command {
        name: "tidy",
        about: "the rules of the house: module order, sizes, fences",
        run: tidy::run,
    },
    Command {
        name: "kafka",
        about: "a real Apache Kafka on this machine: up, down, topic, run .. (`kafka help`)",
        run: kafka::run,
    },
    Command {
        name: "codegen",
        about: "Kafka's messages from the committed tables [--check] [--extract CLASSPATH]",
        run: codegen::run,
    },
    Command {
        name: "mutants",
        about: "plants faults and counts the worlds until each is found [BUDGET] [NAME ..]",
        run: sim::mutants,
    },
    Command {
        name: "compare",
        about: "producers side by side on this machine [--cases ..] [--peers ..] (`compare help`)",
        run: compare::run,
    },
    Command {
        name: "instructions",
        about: "what the parts of a record's life cost [--write: expect it from now on]",
        run: instructions::run,
    },
    Command {
        name: "golden",
        about: "test data made by the Java client [--check: compare only]",
        run: golden::run,
    },
    Command {
        name: "examples",
        about: "the click events under examples/ [--check: compare only]",
        run: examples::run,
    },
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "help".to_owned());
    let rest: Vec<String> = args.collect();
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        println!("cargo xtask COMMAND [ARGS ..]\n");
        for command in COMMANDS {
            println!("  {:10} {}", command.name, command.about);
        }
        return ExitCode::from(if name == "help" { 0 } else { 2 });
    };
    match (command.run)(&rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

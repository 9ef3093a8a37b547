//! Plants each fault in turn and counts the worlds until a checker finds it: `mutants [BUDGET]
//! [NAME..]`. Needs a build with `--cfg sordini_mutants`; `cargo xtask mutants` makes one.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a program, not the simulator: it has arguments, threads and an output"
)]

#[cfg(not(sordini_mutants))]
fn main() {
    eprintln!("this build has no planted faults: use `cargo xtask mutants`");
    std::process::exit(2);
}

#[cfg(sordini_mutants)]
fn main() {
    planted::main();
}

#[cfg(sordini_mutants)]
mod planted {
    use sordini_protocol::mutant::{ABOUT, Mutant, activate};
    use sordini_sim::{Profile, Report, plan, run};

    /// How a planted fault was found.
    struct Kill {
        seed: u64,
        invariant: &'static str,
        text: String,
    }

    /// The worlds that a fault is looked for in: the control's, where it is one.
    fn profile(mutant: Option<Mutant>) -> Profile {
        let control = Profile::named("C-g").expect("a control");
        if mutant == Some(Mutant::M36) { control } else { Profile::default() }
    }

    fn live(seed: u64, profile: &Profile) -> Report {
        let plan = plan(seed, profile, &[]).expect("the profile's settings are sound");
        run(&plan)
    }

    /// The smallest seed below `budget` that breaks a promise, tried on all cores.
    fn first_failure(budget: u64, profile: &Profile) -> Option<Kill> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let mut from = 0;
        while from < budget {
            let to = (from + cores).min(budget);
            let reports: Vec<Report> = std::thread::scope(|scope| {
                let started: Vec<_> =
                    (from..to).map(|seed| scope.spawn(move || live(seed, profile))).collect();
                started.into_iter().map(|it| it.join().expect("a report")).collect()
            });
            if let Some(report) = reports.iter().find(|report| !report.is_clean()) {
                let first = &report.violations[0];
                let text = first.text.chars().take(100).collect();
                return Some(Kill { seed: report.seed, invariant: first.invariant, text });
            }
            from = to;
        }
        None
    }

    pub(super) fn main() {
        let mut args = std::env::args().skip(1);
        let budget = args.next().map_or(2000, |it| it.parse().expect("a number of seeds"));
        let only: Vec<String> = args.collect();
        std::panic::set_hook(Box::new(|_| {}));
        let mut survivors = Vec::new();
        let mut most = 0;
        println!("| mutant | what is wrong | breaks | found by | worlds |");
        println!("|---|---|---|---|---:|");
        for (mutant, about, breaks) in ABOUT {
            let name = format!("{mutant:?}");
            if !only.is_empty() && !only.contains(&name) {
                continue;
            }
            activate(Some(*mutant));
            match first_failure(budget, &profile(Some(*mutant))) {
                Some(Kill { seed, invariant, text }) => {
                    most = most.max(seed + 1);
                    println!("| {name} | {about} | {breaks} | {invariant} | {} |", seed + 1);
                    eprintln!("{name}: seed {seed}: {text}");
                }
                None => {
                    println!("| {name} | {about} | {breaks} | nothing | > {budget} |");
                    survivors.push(name);
                }
            }
        }
        activate(None::<Mutant>);
        // A world that fails without a planted fault would have found every one.
        let sound = first_failure(most, &profile(None))
            .or_else(|| first_failure(most, &profile(Some(Mutant::M36))));
        println!("\nWithout a planted fault the same {most} worlds are sound: {}", sound.is_none());
        if let Some(Kill { seed, invariant, text }) = &sound {
            eprintln!("seed {seed} breaks {invariant} on its own: {text}");
        }
        if !survivors.is_empty() {
            eprintln!("not found within {budget} worlds: {}", survivors.join(", "));
        }
        if sound.is_some() || !survivors.is_empty() {
            std::process::exit(1);
        }
    }
}

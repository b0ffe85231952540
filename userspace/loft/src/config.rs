// SPDX-License-Identifier: Apache-2.0
//! `loft run --config FILE` and `--print-config`: the options in a file, by the flags' names.
//!
//! What is in the file becomes part of the command line, so that there is one reader of options
//! only and a flag that is new is known here as well. What the command line says itself counts, a
//! list as a whole.

use crate::cli::Cli;
use anyhow::{anyhow, bail, Context, Result};
use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory};
use std::any::TypeId;
use std::ffi::OsString;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// The subcommand that has a configuration.
const RUN: &str = "run";
/// The command in the guest, which no flag gives.
const COMMAND: &str = "command";
/// Flags that are about the file itself.
const OWN: [&str; 2] = ["config", "print-config"];

/// The name of `arg` in a file; none if it has no place there.
fn key(arg: &Arg) -> Option<&str> {
    let name = arg.get_long().or_else(|| (arg.get_id() == COMMAND).then_some(COMMAND))?;
    (!OWN.contains(&name) && name != "help").then_some(name)
}

fn run_command() -> Command {
    let mut all = Cli::command();
    all.build();
    all.find_subcommand(RUN).cloned().unwrap_or_default()
}

/// A value of the file as it would be on the command line: the words after the flag, one for each
/// time that it is given.
fn words(arg: &Arg, value: &DeValue) -> Result<Vec<String>> {
    let many = matches!(arg.get_action(), ArgAction::Append);
    let wanted = match arg.get_action() {
        ArgAction::SetTrue => "true or false",
        ArgAction::Append => "a string, or a list of strings,",
        _ => "a string or a number",
    };
    match (value, arg.get_action()) {
        (DeValue::Boolean(_), ArgAction::SetTrue) => Ok(Vec::new()),
        (DeValue::String(text), action) if action.takes_values() => Ok(vec![text.to_string()]),
        (DeValue::Integer(number), action) if action.takes_values() && number.radix() == 10 => {
            Ok(vec![number.as_str().to_owned()])
        }
        (DeValue::Array(values), _) if many => {
            let one = |value: &toml::Spanned<DeValue>| match value.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                other => bail!("{wanted} is expected, not {} in a list", other.type_str()),
            };
            values.iter().map(one).collect()
        }
        (other, _) => bail!("{wanted} is expected, not {}", other.type_str()),
    }
}

/// What clap has to say against `--name=word`, in one line.
fn check(run: &Command, arg: &Arg, name: &str, word: &str) -> Result<()> {
    if name == COMMAND {
        return Ok(());
    }
    let alone = run.clone().mut_args(|arg| arg.required(false));
    let Err(error) = alone.try_get_matches_from([RUN.to_owned(), format!("--{name}={word}")]) else { return Ok(()) };
    let possible = error.get(ContextKind::ValidValue).map(|valid| match valid {
        ContextValue::Strings(all) => format!("; it can be {}", all.join(", ")),
        other => format!("; it can be {other}"),
    });
    match std::error::Error::source(&error) {
        Some(source) => bail!("'{word}' is not valid: {source}"),
        None => bail!("'{word}' is not valid for {arg}{}", possible.unwrap_or_default()),
    }
}

/// The words that the text of a file stands for, but for those that are `given` on the command
/// line: flags, and the command in the guest. An error names line and key.
fn read(text: &str, given: impl Fn(&str) -> bool) -> Result<(Vec<String>, Vec<String>)> {
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        anyhow!("line {}: {}", line(error.span().map_or(0, |span| span.start)), error.message().replace('\n', "; "))
    })?;
    let run = run_command();
    let (mut flags, mut command) = (Vec::new(), Vec::new());
    for (name, value) in table.get_ref() {
        let at = line(name.span().start);
        let name = name.get_ref().as_ref();
        let arg = run.get_arguments().find(|arg| key(arg) == Some(name)).with_context(|| {
            let other = name.replace('_', "-");
            let hint = run.get_arguments().any(|arg| key(arg) == Some(&other));
            let hint = if hint { format!("; it is written {other}") } else { String::new() };
            format!("line {at}: {name}: there is no such option of `loft run`{hint}")
        })?;
        let of_key = || format!("line {at}: {name}");
        let words = words(arg, value.get_ref()).with_context(of_key)?;
        words.iter().try_for_each(|word| check(&run, arg, name, word)).with_context(of_key)?;
        match value.get_ref() {
            _ if given(arg.get_id().as_str()) => {}
            DeValue::Boolean(true) => flags.push(format!("--{name}")),
            DeValue::Boolean(false) => {}
            _ if name == COMMAND => command = words,
            _ => flags.extend(words.iter().map(|word| format!("--{name}={word}"))),
        }
    }
    Ok((flags, command))
}

/// `args`, the words of the command line, with what the file says that --config names.
pub fn expand(args: Vec<OsString>) -> Result<Vec<OsString>> {
    // The file may say what is missing. What is wrong otherwise is said later.
    let lenient = Cli::command().mut_subcommand(RUN, |run| run.mut_args(|arg| arg.required(false)));
    let Ok(matches) = lenient.try_get_matches_from(&args) else { return Ok(args) };
    let Some((RUN, run)) = matches.subcommand() else { return Ok(args) };
    let Some(path) = run.get_one::<std::path::PathBuf>("config") else { return Ok(args) };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let given = |id: &str| run.value_source(id) == Some(ValueSource::CommandLine);
    let (flags, command) = read(&text, given).with_context(|| path.display().to_string())?;
    let mut all = args;
    let at = all.iter().position(|word| word == RUN).map_or(all.len(), |at| at + 1);
    all.splice(at..at, flags.into_iter().map(OsString::from));
    if !command.is_empty() {
        all.push("--".into());
        all.extend(command.into_iter().map(OsString::from));
    }
    Ok(all)
}

/// Whether values of `parser` are numbers.
fn is_number(parser: &ValueParser) -> bool {
    [TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>()].iter().any(|id| parser.type_id() == *id)
}

/// The options of `loft run` that are in force, as a file for --config. Fails for a value that is
/// no UTF-8, which a file cannot have.
pub fn print(matches: &ArgMatches) -> Result<String> {
    let mut text = String::new();
    let run = run_command();
    for arg in run.get_arguments() {
        let (Some(name), id) = (key(arg), arg.get_id().as_str()) else { continue };
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            text += &format!("{name} = {}\n", matches.get_flag(id));
            continue;
        }
        let Some(raw) = matches.get_raw(id) else { continue };
        let one = |word: &std::ffi::OsStr| {
            let word = word.to_str().with_context(|| format!("{name}: {} is no UTF-8", Path::new(word).display()))?;
            let number = is_number(arg.get_value_parser()) && word.parse().is_ok_and(|n: i64| n.to_string() == word);
            Ok(if number { word.to_owned() } else { toml::Value::String(word.to_owned()).to_string() })
        };
        let values = raw.map(one).collect::<Result<Vec<_>>>()?;
        match arg.get_action() {
            ArgAction::Append => text += &format!("{name} = [{}]\n", values.join(", ")),
            // Of several the last one counts.
            _ => text += &format!("{name} = {}\n", values.last().map_or("", |value| value)),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    /// A value for each option: the text in a file, and the words of the command line.
    fn sample(key: &str) -> (&'static str, Vec<&'static str>) {
        match key {
            "kernel" => ("'Image'", vec!["--kernel", "Image"]),
            "initrd" => ("'a b.img'", vec!["-i", "a b.img"]),
            "disk" => ("['a,ro', 'b,snapshot']", vec!["-d", "a,ro", "-d", "b,snapshot"]),
            "share" => ("['/tmp:t,ro']", vec!["--share", "/tmp:t,ro"]),
            "rw" => ("['/tmp']", vec!["--rw", "/tmp"]),
            "net" => ("'user,tcp=2222:22'", vec!["-n", "user,tcp=2222:22"]),
            "cpus" => ("4", vec!["-c", "4"]),
            "memory" => ("'2G'", vec!["-m", "2G"]),
            "balloon" => ("true", vec!["--balloon"]),
            "huge" => ("true", vec!["--huge"]),
            "jail" => ("'nobody'", vec!["--jail", "nobody"]),
            "append" => ("['-x \"y\"', 'z']", vec!["-p", "-x \"y\"", "-p", "z"]),
            "modules" => ("'/m'", vec!["--modules", "/m"]),
            "device" => ("'/dev/kvm'", vec!["--device", "/dev/kvm"]),
            "transport" => ("'pci'", vec!["--transport", "pci"]),
            "vsock" => ("5", vec!["--vsock", "5"]),
            "console" => ("'serial'", vec!["--console", "serial"]),
            "console-log" => ("'c.log,limit=1M'", vec!["--console-log", "c.log,limit=1M"]),
            "name" => ("'12'", vec!["--name", "12"]),
            "detach" => ("true", vec!["--detach"]),
            "on-reboot" => ("'restart'", vec!["--on-reboot", "restart"]),
            "gdb" => ("1234", vec!["--gdb", "1234"]),
            "no-sandbox" => ("true", vec!["--no-sandbox"]),
            "json" => ("true", vec!["--json"]),
            "verbose" => ("true", vec!["-v"]),
            "command" => ("['sh', '-c', 'echo \"$1\"']", vec!["--", "sh", "-c", "echo \"$1\""]),
            other => panic!("`{other}` is new: give it a value here"),
        }
    }

    fn parse(words: &[OsString]) -> (String, ArgMatches) {
        let matches = Cli::command().try_get_matches_from(words).unwrap();
        let shown = format!("{:?}", Cli::from_arg_matches(&matches).unwrap().command);
        (shown, matches.subcommand().unwrap().1.clone())
    }

    fn line(words: &[&str]) -> Vec<OsString> {
        ["loft", "run"].iter().chain(words).map(OsString::from).collect()
    }

    /// The command line with the file of this text: what is run, and how it is printed.
    fn with(text: &str, words: &[&str]) -> Result<(String, String)> {
        let n = std::thread::current().id();
        let path = std::env::temp_dir().join(format!("loft-config-{}-{n:?}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let mut all = line(&["--config"]);
        all.push(path.clone().into());
        all.extend(words.iter().map(OsString::from));
        let expanded = expand(all);
        std::fs::remove_file(&path).unwrap();
        let (shown, matches) =
            parse(&expanded.map_err(|e| anyhow!("{}", format!("{e:#}").replace(path.to_str().unwrap(), "F")))?);
        // Where the file is does not matter.
        let shown = shown.replace(&format!("config: Some({path:?})"), "config: None");
        Ok((shown, print(&matches)?))
    }

    #[test]
    fn every_flag_has_its_key() {
        let run = run_command();
        let keys: Vec<&str> = run.get_arguments().filter_map(key).collect();
        assert!(keys.len() > 15 && keys.contains(&"command"));
        let (mut file, mut words) = (String::new(), Vec::new());
        for key in keys {
            let (text, mut flags) = sample(key);
            // Alone, with what is always needed.
            let needed = if key == "kernel" { "" } else { "kernel = 'k'\n" };
            let mut alone = if key == "kernel" { vec![] } else { vec!["-k", "k"] };
            alone.extend(&flags);
            let (wanted, matches) = parse(&line(&alone));
            let (found, printed) = with(&format!("{needed}{key} = {text}\n"), &[]).unwrap();
            assert_eq!(found, wanted, "{key}");
            assert_eq!(printed, print(&matches).unwrap(), "{key}");
            // What is printed is read as the same, and printed as the same.
            assert_eq!(with(&printed, &[]).unwrap(), (wanted, printed), "{key}");
            // Of two that contradict each other one.
            if key != "huge" {
                file += &format!("{key} = {text}\n");
                words.append(&mut flags);
            }
        }
        assert_eq!(with(&file, &[]).unwrap().0, parse(&line(&words)).0);
    }

    #[test]
    fn the_command_line_wins() {
        let file = "kernel = 'k'\ncpus = 4\ndisk = ['a', 'b']\ncommand = 'ls'\nverbose = false\n";
        let (shown, _) = with(file, &["-c", "2", "-d", "c", "-v", "--", "ps", "-k"]).unwrap();
        assert_eq!(shown, parse(&line(&["-k", "k", "-c", "2", "-d", "c", "-v", "--", "ps", "-k"])).0);
        // An option's value that is called like the subcommand is none.
        assert_eq!(
            with(file, &["--name", "run"]).unwrap().0,
            parse(&line(&["-k", "k", "-c", "4", "-d", "a", "-d", "b", "--name", "run", "--", "ls",])).0
        );
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let of = |text: &str| format!("{:#}", with(text, &[]).unwrap_err());
        for (text, said) in [
            ("kernel = 'k'\n\nkernal = 'x'\n", "F: line 3: kernal: there is no such option of `loft run`"),
            (
                "on_reboot = 'exit'",
                "F: line 1: on_reboot: there is no such option of `loft run`; it is written on-reboot",
            ),
            ("\ncpus = true", "F: line 2: cpus: a string or a number is expected, not boolean"),
            ("json = 'yes'", "F: line 1: json: true or false is expected, not string"),
            ("kernel = ['a', 'b']", "F: line 1: kernel: a string or a number is expected, not array"),
            ("disk = ['a', 1]", "F: line 1: disk: a string, or a list of strings, is expected, not integer in a list"),
            ("[disk]\npath = 'a'", "F: line 1: disk: a string, or a list of strings, is expected, not table"),
            ("config = 'other'", "F: line 1: config: there is no such option of `loft run`"),
            ("kernel = 'k'\ndisk = ['a'\ncpus = 2", "F: line 3: "),
            ("kernel = 'k'\nkernel = 'l'", "F: line 2: "),
        ] {
            assert!(of(text).starts_with(said), "{text}: {}", of(text));
        }
        assert!(of("cpus = 0").contains("line 1: cpus: '0' is not valid: 0 is not in 1..=512"), "{}", of("cpus = 0"));
        assert!(
            of("memory = 512").contains("line 1: memory: '512' is not valid: ") && of("memory = 512").contains("512M")
        );
        assert!(of("console = 'tty'").contains("hvc0, serial"), "{}", of("console = 'tty'"));
        let gone = expand(line(&["--config", "/nonexistent/c.toml"])).unwrap_err();
        assert!(format!("{gone:#}").contains("cannot read /nonexistent/c.toml: No such file"));
    }

    #[test]
    fn without_a_file_nothing_changes() {
        for words in [line(&["-k", "k", "--", "--config", "x"]), line(&["--help"]), line(&[]), vec!["loft".into()]] {
            assert_eq!(expand(words.clone()).unwrap(), words);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The manual pages, made from the definition of the command line.

use std::io::{self, Write};

/// The subcommand that has a page of its own beside the one of `loft`.
const OWN_PAGE: &str = "run";
const MANUAL: &str = "loft";

/// Writes a page in roff: for the program and its subcommands, or for the subcommand `name`. False
/// if there is none.
pub fn write(command: clap::Command, name: Option<&str>, to: &mut impl Write) -> io::Result<bool> {
    match name {
        None => program(command, to)?,
        Some(name) => match command.get_subcommands().find(|sub| sub.get_name() == name) {
            Some(sub) => subcommand(sub, to)?,
            None => return Ok(false),
        },
    }
    Ok(true)
}

fn program(command: clap::Command, to: &mut impl Write) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone()).manual(MANUAL);
    page.render_title(to)?;
    page.render_name_section(to)?;
    writeln!(to, ".SH SYNOPSIS\n\\fBloft\\fR \\fICOMMAND\\fR \\fR[\\fIOPTIONS\\fR]")?;
    page.render_description_section(to)?;
    for sub in command.get_subcommands().filter(|s| !s.is_hide_set() && s.get_name() != "help") {
        let name = sub.get_name().to_owned();
        writeln!(to, ".SH \"LOFT {}\"", name.to_uppercase())?;
        if name == OWN_PAGE {
            writeln!(to, "{}. It has a page of its own: \\fBloft\\-{name}\\fR(1).", about(sub))?;
            continue;
        }
        let sub = sub.clone().bin_name(format!("loft {name}"));
        let page = clap_mangen::Man::new(sub.clone());
        let mut text = Vec::new();
        synopsis(&sub, &mut text)?;
        page.render_description_section(&mut text)?;
        page.render_options_section(&mut text)?;
        if sub.get_after_help().or(sub.get_after_long_help()).is_some() {
            // Lists and examples: lines stay lines.
            text.extend_from_slice(b".nf\n");
            page.render_extra_section(&mut text)?;
            text.extend_from_slice(b".fi\n");
        }
        // Sections of a subcommand are subsections of the page.
        to.write_all(String::from_utf8_lossy(&text).replace(".SH ", ".SS ").as_bytes())?;
    }
    writeln!(to, ".SH \"SEE ALSO\"\n\\fBloft\\-{OWN_PAGE}\\fR(1)")
}

fn subcommand(sub: &clap::Command, to: &mut impl Write) -> io::Result<()> {
    let name = sub.get_name().to_owned();
    let version = concat!("loft ", env!("CARGO_PKG_VERSION"));
    let sub = sub.clone().bin_name(format!("loft {name}"));
    let page = clap_mangen::Man::new(sub.clone()).title(format!("loft-{name}")).source(version).manual(MANUAL);
    page.render_title(to)?;
    writeln!(to, ".SH NAME\nloft\\-{name} \\- {}", about(&sub))?;
    synopsis(&sub, to)?;
    page.render_options_section(to)?;
    if let Some(help) = sub.get_after_long_help().or(sub.get_after_help()) {
        sections(&help.to_string(), to)?;
    }
    writeln!(to, ".SH \"SEE ALSO\"\n\\fBloft\\fR(1)")
}

fn about(command: &clap::Command) -> String {
    command.get_about().map_or_else(String::new, |about| escaped(&about.to_string()))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// Writes help as sections: one begins with a line at the margin that ends in a colon. Other lines
/// stay lines.
fn sections(help: &str, to: &mut impl Write) -> io::Result<()> {
    let mut open = false;
    for line in help.lines() {
        match line.strip_suffix(':').filter(|heading| !heading.starts_with(' ')) {
            Some(heading) => {
                writeln!(to, "{}.SH \"{}\"\n.nf", if open { ".fi\n" } else { "" }, escaped(heading).to_uppercase())?;
                open = true;
            }
            None => {
                let line = escaped(line.strip_prefix("  ").unwrap_or(line));
                // A request of roff's begins with one of these.
                let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
                writeln!(to, "{guard}{line}")?;
            }
        }
    }
    if open {
        writeln!(to, ".fi")?;
    }
    Ok(())
}

/// Writes how a subcommand is called. clap_mangen leaves out what options take.
fn synopsis(command: &clap::Command, to: &mut impl Write) -> io::Result<()> {
    let mut command = command.clone();
    command.build();
    write!(to, ".SH SYNOPSIS\n\\fB{}\\fR", command.get_bin_name().unwrap_or_default())?;
    let mut arguments: Vec<_> = command.get_arguments().filter(|a| !a.is_hide_set()).collect();
    arguments.sort_by_key(|a| a.is_positional());
    for arg in arguments {
        let names: Vec<String> =
            [arg.get_short().map(|c| format!("\\-{c}")), arg.get_long().map(|l| format!("\\-\\-{l}"))]
                .into_iter()
                .flatten()
                .map(|name| format!("\\fB{name}\\fR"))
                .collect();
        let values = arg.get_value_names().filter(|_| arg.get_action().takes_values() || arg.is_positional());
        let value = values.into_iter().flatten().map(|v| format!("\\fI{v}\\fR")).collect::<Vec<_>>().join(" ");
        let text = match (arg.is_positional(), value.as_str()) {
            (true, _) if arg.is_last_set() => format!("\\-\\- {value}..."),
            (true, _) => value,
            (false, "") => names.join("|"),
            (false, _) => format!("{} {value}", names.join("|")),
        };
        let more = if matches!(arg.get_action(), clap::ArgAction::Append) && !arg.is_last_set() { "..." } else { "" };
        if arg.is_required_set() {
            write!(to, " {text}{more}")?;
        } else {
            write!(to, " [{text}]{more}")?;
        }
    }
    writeln!(to)
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn page(name: Option<&str>) -> String {
        let mut page = Vec::new();
        assert!(super::write(Cli::command(), name, &mut page).unwrap());
        String::from_utf8(page).unwrap()
    }

    /// `loft man > man/loft.1` and `loft man run > man/loft-run.1` make the pages that are kept in
    /// the tree.
    #[test]
    fn the_pages_in_the_tree_are_current() {
        assert!(page(None) == include_str!("../man/loft.1"), "run: cargo run -p loft -- man > loft/man/loft.1");
        let kept = include_str!("../man/loft-run.1");
        assert!(page(Some("run")) == kept, "run: cargo run -p loft -- man run > loft/man/loft-run.1");
    }

    #[test]
    fn a_page_has_all_that_the_help_has() {
        for sub in Cli::command().get_subcommands() {
            let page = page(Some(sub.get_name()));
            for option in sub.get_arguments().filter_map(|arg| arg.get_long()) {
                assert!(
                    page.contains(&format!("\\-\\-{}", option.replace('-', "\\-"))),
                    "{}: {option}",
                    sub.get_name()
                );
            }
            let plain = page.replace("\\-", "-").replace("\\e", "\\").replace("\\&", "");
            let help = sub.get_after_long_help().map(|help| help.to_string()).unwrap_or_default();
            for line in help.lines() {
                let line = line.trim_start().trim_end_matches(':');
                assert!(plain.contains(line) || plain.contains(&line.to_uppercase()), "{}: {line}", sub.get_name());
            }
        }
        assert!(!super::write(Cli::command(), Some("rum"), &mut Vec::new()).unwrap());
    }
}

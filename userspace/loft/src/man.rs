// SPDX-License-Identifier: Apache-2.0
//! The manual page, made from the definition of the command line.

use std::io::{self, Write};

/// Writes one page for the program and its subcommands, in roff.
pub fn write(command: clap::Command, to: &mut impl Write) -> io::Result<()> {
    let page = clap_mangen::Man::new(command.clone()).manual("loft");
    page.render_title(to)?;
    page.render_name_section(to)?;
    writeln!(to, ".SH SYNOPSIS\n\\fBloft\\fR \\fICOMMAND\\fR \\fR[\\fIOPTIONS\\fR]")?;
    page.render_description_section(to)?;
    for sub in command.get_subcommands().filter(|s| !s.is_hide_set() && s.get_name() != "help") {
        let name = sub.get_name().to_owned();
        writeln!(to, ".SH \"LOFT {}\"", name.to_uppercase())?;
        let page = clap_mangen::Man::new(sub.clone().bin_name(format!("loft {name}")));
        for section in [Section::Synopsis, Section::Description, Section::Options, Section::Extra] {
            let mut text = Vec::new();
            match section {
                Section::Synopsis => synopsis(&sub.clone().bin_name(format!("loft {name}")), &mut text)?,
                Section::Description => page.render_description_section(&mut text)?,
                Section::Options => page.render_options_section(&mut text)?,
                Section::Extra if sub.get_after_help().or(sub.get_after_long_help()).is_none() => {}
                Section::Extra => {
                    // Lists and examples: lines stay lines.
                    text.extend_from_slice(b".nf\n");
                    page.render_extra_section(&mut text)?;
                    text.extend_from_slice(b".fi\n");
                }
            }
            // Sections of a subcommand are subsections of the page.
            let text = String::from_utf8_lossy(&text).replace(".SH ", ".SS ");
            to.write_all(text.as_bytes())?;
        }
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

enum Section {
    Synopsis,
    Description,
    Options,
    Extra,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// `loft man > man/loft.1` makes the page that is kept in the tree.
    #[test]
    fn the_page_in_the_tree_is_current() {
        let mut now = Vec::new();
        super::write(crate::cli::Cli::command(), &mut now).unwrap();
        let kept = include_str!("../man/loft.1");
        assert!(String::from_utf8(now).unwrap() == kept, "run: cargo run -p loft -- man > loft/man/loft.1");
    }
}

//! `fireworks-proxy`: arguments, settings, log, run, exit code. No logic.

use std::{
    fmt::Display,
    io::{self, ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use fireworks_proxy::{
    cli::{self, Client, Command, Invocation, PROGRAM, Shell, Style},
    config::{Config, ConfigError, Raw},
    net::{Page, Server, StartError, ask, check, logger, stop_on_interrupt, watch},
    proxy::Stopped,
};
use log::{error, warn};

/// The exit code of arguments or settings that mean nothing, and of a port in use.
const EXIT_CODE_CANNOT_START: u8 = 2;

/// The page that `status` shows.
const STATUS_PAGE: &str = "/usage";

fn main() -> ExitCode {
    let invocation = match cli::parse(std::env::args_os().skip(1)) {
        Ok(invocation) => invocation,
        Err(error) => return refuse(&error),
    };
    let done = match invocation.command {
        Command::Run => return run(&invocation),
        Command::Help => Ok(print(&cli::help())),
        Command::Version => Ok(print(&cli::version())),
        Command::Check => Ok(run_check(&invocation)),
        Command::PrintConfig => settings(&invocation).map(|config| print(&cli::settings(&config))),
        Command::Status { watch: false } => settings(&invocation).map(|config| show_status(&config)),
        Command::Status { watch: true } => settings(&invocation).map(|config| watch_status(&config)),
        Command::Env { client, shell } => {
            settings(&invocation).map(|config| print_snippet(client, shell, &config))
        }
    };
    done.unwrap_or_else(|error| refuse(&error))
}

fn run(invocation: &Invocation) -> ExitCode {
    match start(invocation) {
        Err(error) => refuse(&error),
        Ok(mut server) => match server.run() {
            Ok(stopped) => {
                if stopped == Stopped::Clean {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                }
            }
            Err(error) => {
                error!("the event loop failed: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn start(invocation: &Invocation) -> Result<Server, StartError> {
    let raw = written(invocation)?;
    let config = Config::from_raw(&raw)?;
    logger::start(config.log_level, config.log_format, config.timezone);
    raw.warnings().for_each(|warning| warn!("{warning}"));
    let mut server = Server::bind(config)?;
    server.tell_of_start();
    if let Err(error) = stop_on_interrupt(server.stopper()) {
        warn!("Ctrl-C ends the proxy at once, without saving: {error}");
    }
    Ok(server)
}

/// The settings as they were written: the environment, and the flags before it.
fn written(invocation: &Invocation) -> Result<Raw, ConfigError> {
    let flags = invocation.flags.iter().map(|(setting, value)| (*setting, value.as_str()));
    Ok(Raw::from_variables(std::env::vars_os())?.with_flags(flags))
}

/// The settings for a command that is not the proxy itself: there is no log, so warnings go straight out.
fn settings(invocation: &Invocation) -> Result<Config, ConfigError> {
    let raw = written(invocation)?;
    raw.warnings().for_each(|warning| say(&warning));
    Config::from_raw(&raw)
}

fn run_check(invocation: &Invocation) -> ExitCode {
    let mut written = Ok(());
    let is_well = check(&settings(invocation), |finding| {
        if written.is_ok() {
            written = write(&format!("{finding}\n"));
        }
    });
    let ended = ended(written);
    if is_well { ended } else { ExitCode::FAILURE }
}

fn print_snippet(client: Client, shell: Option<Shell>, config: &Config) -> ExitCode {
    let shell = shell.unwrap_or_else(|| Shell::guess(cfg!(windows), variable));
    match cli::snippet(client, shell, config) {
        Ok(lines) => print(&lines),
        Err(why) => refuse(&why),
    }
}

fn show_status(config: &Config) -> ExitCode {
    match ask(config, STATUS_PAGE) {
        Ok(page) => print(&table(&page, style())),
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

/// Until it is interrupted, or nobody reads any more.
fn watch_status(config: &Config) -> ExitCode {
    let style = style();
    let mut written = Ok(());
    watch(config, STATUS_PAGE, |asked| {
        let text = asked.map_or_else(|error| cli::no_status(&error.to_string()), |page| table(&page, style));
        written = write(&style.screen(&text));
        written.is_ok()
    });
    ended(written)
}

fn table(page: &Page, style: Style) -> String {
    cli::status(&page.body, &page.address.to_string(), style)
}

fn style() -> Style {
    Style::of(io::stdout().is_terminal(), cfg!(windows), variable)
}

/// What the environment says to nobody but the command line.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints a text that is the whole answer.
fn print(text: &str) -> ExitCode {
    ended(write(text))
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// How output ended. Somebody who has read enough, such as `head`, is no failure; a full disk is one.
fn ended(written: io::Result<()>) -> ExitCode {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            say(&format!("cannot write the answer: {error}"));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

fn refuse(error: &impl Display) -> ExitCode {
    say(error);
    ExitCode::from(EXIT_CODE_CANNOT_START)
}

/// One line on standard error, which may be closed.
fn say(what: &impl Display) {
    let _ = writeln!(io::stderr(), "{PROGRAM}: {what}");
}

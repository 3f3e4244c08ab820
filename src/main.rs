//! `fireworks-proxy`: arguments, settings, log, run, exit code. No logic.

use std::process::ExitCode;

use fireworks_proxy::{
    config::{Config, Raw},
    net::{Server, StartError, logger},
    proxy::Stopped,
};
use log::{error, info, warn};

/// The exit code of a start that could not be: a setting that cannot be meant, or a port in use.
const EXIT_CODE_CANNOT_START: u8 = 2;

fn main() -> ExitCode {
    if let Some(argument) = std::env::args_os().nth(1) {
        let argument = argument.to_string_lossy();
        eprintln!(
            "fireworks-proxy: {argument:?} is not known; settings are environment variables, see README.md"
        );
        return ExitCode::from(EXIT_CODE_CANNOT_START);
    }
    match start() {
        Err(error) => {
            eprintln!("fireworks-proxy: {error}");
            ExitCode::from(EXIT_CODE_CANNOT_START)
        }
        Ok(mut server) => match server.run() {
            Ok(stopped) => {
                info!("Fireworks proxy stopped");
                if stopped == Stopped::Clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => {
                error!("the event loop failed: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn start() -> Result<Server, StartError> {
    let raw = Raw::from_variables(std::env::vars_os())?;
    let config = Config::from_raw(&raw)?;
    logger::start(config.log_level, config.timezone);
    raw.warnings().for_each(|warning| warn!("{warning}"));
    let settings = config.describe();
    let summary = config.summary();
    let server = Server::bind(config)?;
    let addresses: Vec<String> =
        server.addresses().iter().map(|address| format!("http://{address}")).collect();
    info!("Fireworks proxy starting on {} -> {summary}", addresses.join(" and "));
    info!("{settings}");
    let stopper = server.stopper();
    if let Err(error) = ctrlc::set_handler(move || stopper.stop()) {
        warn!("Ctrl-C ends the proxy at once, without saving: {error}");
    }
    Ok(server)
}

//! A socket to a forward proxy until its tunnel is open.
//!
//! Not a byte behind the proxy's answer is taken from the socket: what is there is looked at first. So whoever
//! speaks through the tunnel begins with a socket that is as good as one straight to the upstream.

use std::io::{self, Read};

use mio::net::TcpStream;

use super::conn::write_plain;
use crate::{connect::Connect, failure::Failure};

/// What is looked at at once; a proxy's answer is mostly shorter.
const PEEK_BYTES: usize = 1024;

/// Asks for the tunnel and hears the answer, as far as the socket goes on. Whether the tunnel is open.
pub(super) fn open(
    connect: &mut Connect,
    stream: &mut TcpStream,
    readable: &mut bool,
    writable: &mut bool,
) -> Result<bool, Failure> {
    let broken = |connect: &Connect, error: &io::Error| connect.broken(&error.to_string());
    while *writable && !connect.pending_write().is_empty() {
        let sent = write_plain(stream, connect.pending_write(), writable);
        connect.wrote(sent.map_err(|error| broken(connect, &error))?);
    }
    let mut buffer = [0; PEEK_BYTES];
    while *readable {
        match stream.peek(&mut buffer) {
            Ok(0) => return Err(connect.broken("it closed the connection")),
            Ok(count) => {
                let received = connect.receive(&buffer[..count])?;
                let taken = stream.read_exact(&mut buffer[..received.consumed]);
                taken.map_err(|error| broken(connect, &error))?;
                if received.is_open {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *readable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(connect, &error)),
        }
    }
    Ok(false)
}

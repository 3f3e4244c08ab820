//! Error bodies by status and dialect, and the reason phrases.

use super::super::demand::Dialect;
use super::super::script::ErrorBody;
use super::quoted;

/// The content type (None for an empty body) and the body of an error.
pub(super) fn body(
    dialect: Dialect,
    status: u16,
    message: Option<&str>,
    shape: ErrorBody,
) -> (Option<&'static str>, String) {
    match shape {
        ErrorBody::Empty => (None, String::new()),
        ErrorBody::Html => (Some("text/html; charset=UTF-8"), html(status)),
        ErrorBody::StringError => (Some("application/json"), string_error(status)),
        ErrorBody::Json => (Some("application/json"), json(dialect, status, message)),
    }
}

/// The reason phrase of a status.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        103 => "Early Hints",
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        520 => "Web Server Returned an Unknown Error",
        524 => "A Timeout Occurred",
        529 => "Site is Overloaded",
        _ => "Unnamed",
    }
}

fn json(dialect: Dialect, status: u16, message: Option<&str>) -> String {
    match dialect {
        Dialect::Anthropic => {
            let (kind, usual) = anthropic_error(status);
            let message = quoted(message.unwrap_or(usual));
            format!(
                r#"{{"type":"error","error":{{"type":"{kind}","message":{message}}},"request_id":"req_x"}}"#
            )
        }
        Dialect::OpenAi if status == 404 => {
            let message = quoted(message.unwrap_or("Path not found"));
            format!(
                r#"{{"error":{{"message":{message},"param":null,"code":"NOT_FOUND","type":"error"}},"request_id":"req_x"}}"#
            )
        }
        Dialect::OpenAi => {
            let (kind, usual) = openai_error(status);
            let message = quoted(message.unwrap_or(usual));
            format!(r#"{{"error":{{"object":"error","type":"{kind}","code":"{kind}","message":{message}}}}}"#)
        }
    }
}

fn openai_error(status: u16) -> (&'static str, &'static str) {
    match status {
        429 => ("invalid_request_error", "rate limit exceeded, please try again later"),
        503 => ("server_error", "Service Overloaded"),
        500.. => ("server_error", reason(status)),
        _ => ("invalid_request_error", reason(status)),
    }
}

fn anthropic_error(status: u16) -> (&'static str, &'static str) {
    match status {
        401 => ("authentication_error", reason(status)),
        402 => ("billing_error", reason(status)),
        403 => ("permission_error", reason(status)),
        404 => ("not_found_error", reason(status)),
        413 => ("request_too_large", reason(status)),
        429 => ("rate_limit_error", "rate limit exceeded, please try again later"),
        503 | 529 => ("overloaded_error", "Overloaded"),
        504 => ("timeout_error", reason(status)),
        500.. => ("api_error", reason(status)),
        _ => ("invalid_request_error", reason(status)),
    }
}

fn string_error(status: u16) -> String {
    let message = "You have exceeded your usage limits. Try again later.";
    format!(r#"{{"error":{},"message":{}}}"#, quoted(reason(status)), quoted(message))
}

fn html(status: u16) -> String {
    let title = format!("{status} {}", reason(status));
    format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
    )
}

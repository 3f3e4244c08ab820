//! `/settings`: what is in force, and where each value came from; and what of others' variables is. No secret is in it.

use serde_json::{Value, json};

use super::moment;
use crate::{
    config::{CaFile, ForwardProxy, ShownSetting},
    context::Context,
    http::write::Answer,
};

/// The page.
pub fn page(ctx: &Context) -> Answer {
    super::page(
        200,
        &json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started_at": moment(ctx, ctx.started_at()),
            "forward_proxy": ctx.config.forward_proxy.as_ref().map(forward_proxy),
            "ca_files": ctx.config.ca_files.iter().map(ca_file).collect::<Vec<_>>(),
            "settings": ctx.config.shown.iter().map(setting).collect::<Vec<_>>(),
        }),
    )
}

fn forward_proxy(proxy: &ForwardProxy) -> Value {
    json!({"url": proxy.to_string(), "named_by": proxy.named_by})
}

fn ca_file(file: &CaFile) -> Value {
    json!({"path": file.path.to_string_lossy(), "named_by": file.named_by})
}

fn setting(shown: &ShownSetting) -> Value {
    let ShownSetting { setting, value, origin } = shown;
    json!({
        "name": setting.name,
        "flag": setting.flag(),
        "value": value,
        "default": setting.default,
        "origin": origin.to_string(),
        "meaning": setting.meaning,
    })
}

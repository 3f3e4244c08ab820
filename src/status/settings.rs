//! `/settings`: what is in force, and where each value came from. No secret is in it.

use serde_json::{Value, json};

use super::moment;
use crate::{config::ShownSetting, context::Context, http::write::Answer};

/// The page.
pub fn page(ctx: &Context) -> Answer {
    super::page(
        200,
        &json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started_at": moment(ctx, ctx.started_at()),
            "settings": ctx.config.shown.iter().map(setting).collect::<Vec<_>>(),
        }),
    )
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

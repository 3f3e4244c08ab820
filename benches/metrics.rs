//! What the metrics cost: counting a request when it ends, and making the page for whoever asks.
//!
//! A request is counted in less than a microsecond. The page is made in a tenth of a millisecond with one lane, a quarter
//! with 16, and three with 256: a scrape every 15 s takes less than a thousandth of a core.
//!
//! `cargo bench --bench metrics`
#![allow(missing_docs, reason = "criterion's macros write none")]

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fireworks_proxy::{
    budget::Tokens,
    config::Config,
    context::Context,
    event::ProcessFigures,
    stats::{Ended, Outcome, Tally, labels::MODELS_MAX},
    status,
    time::Now,
};

/// Few lanes, many, and as many as there may be.
const LANES: [u64; 3] = [1, 16, 256];

fn ended(model: &str, key: u64) -> Ended<'_> {
    Ended {
        outcome: Outcome::Finished,
        class: "2xx",
        model,
        credential: Some(key),
        is_well_answered: true,
        waited: Duration::from_millis(1_234),
        first_byte: Some(Duration::from_millis(2_345)),
        took: Duration::from_secs(34),
        tokens: Some(Tokens { prompt: 40_000, uncached_prompt: 2_000, generated: 500 }),
    }
}

fn model(number: u64) -> String {
    format!("accounts/fireworks/models/model-{number}")
}

/// A request of the model that is found last.
fn counting(criterion: &mut Criterion) {
    let models = MODELS_MAX as u64;
    let mut tally = Tally::default();
    for number in 0..models {
        tally.count(&ended(&model(number), number));
    }
    let last = model(models - 1);
    criterion.bench_function("count a request", |bencher| {
        bencher.iter(|| tally.count(black_box(&ended(&last, 1))));
    });
}

fn making(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("make the page");
    let now = Now::default();
    for lanes in LANES {
        let mut ctx = Context::new(Config::defaults(), 0, now);
        for number in 0..lanes {
            // Sixteen models with sixteen keys each.
            let (model, key) = (model(number / 16), number % 16);
            ctx.admission.find_or_add_lane(key, &model, now.mono);
            ctx.stats.tally.count(&ended(&model, key));
        }
        group.bench_function(BenchmarkId::new("lanes", lanes), |bencher| {
            bencher.iter(|| black_box(status::metrics::page(&mut ctx, 100, &ProcessFigures::default(), now)));
        });
    }
    group.finish();
}

criterion_group!(benches, counting, making);
criterion_main!(benches);

//! What each byte costs that goes by: a request's body on its way in, an answer's stream on its way back.
//!
//! Long pieces of text go through eight bytes at a time. Short ones are measured apart, since each costs something of its
//! own: lines of code, whose ends JSON escapes, and the deltas of a stream.
//!
//! `cargo bench --bench scanner`
#![allow(missing_docs, reason = "criterion's macros write none")]

use std::{fmt::Write as _, hint::black_box};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fireworks_proxy::{inspect::Inspector, usage::Meter};

/// What one read of a socket gives.
const READ_BYTES: usize = 16 * 1024;

const TEXT_BYTES: usize = 512 * 1024;

const LONG_LINES: &str = "    let stretch = bytes.iter().position(|byte| is_special(*byte)).unwrap_or(bytes.len()); // as far as it is plain, and the rest of the line too";
const SHORT_LINES: &str = "if a {\\n\\tb(\\\"c\\\");\\n} else {\\n\\tdone();\\n}\\n";
const CJK: &str = "請求在此等候，直到其模型的配額有餘裕為止。";

fn body(text: &str) -> Vec<u8> {
    let text = text.repeat(TEXT_BYTES / text.len());
    format!(r#"{{"model":"m","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#).into_bytes()
}

/// The deltas of an OpenAI stream, a word each, as they come by the hundred thousand.
fn stream() -> Vec<u8> {
    let mut events = String::new();
    for number in 0..2_000 {
        let choice = format!(r#"{{"index":0,"delta":{{"content":" word{number}"}},"finish_reason":null}}"#);
        write!(
            events,
            "data: {{\"id\":\"chat-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\
             \"choices\":[{choice}],\"usage\":null}}\n\n"
        )
        .expect("a string takes it");
    }
    events.into_bytes()
}

fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("inspect a body");
    for (name, text) in [("long lines", LONG_LINES), ("short lines", SHORT_LINES), ("CJK", CJK)] {
        let body = body(text);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let mut inspector = Inspector::default();
                body.chunks(READ_BYTES).for_each(|read| inspector.feed(black_box(read)));
                inspector
            });
        });
    }
    group.finish();
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("watch an answer");
    let stream = stream();
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("stream", |bencher| {
        bencher.iter(|| {
            let mut meter = Meter::new(Some("text/event-stream"), None);
            stream.chunks(READ_BYTES).for_each(|read| meter.watch(black_box(read)));
            meter
        });
    });
    group.finish();
}

criterion_group!(benches, bodies, streams);
criterion_main!(benches);

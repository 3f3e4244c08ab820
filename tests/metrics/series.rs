//! The number of series has a bound, whoever makes up names.

use fireworks_proxy::stats::labels::{CREDENTIALS_MAX, LABEL_CHARS_MAX, MODELS_MAX};

use super::{Page, ask, metrics, new_world, serve};

const INVENTIONS: u16 = 500;

fn assert_bounded(page: &Page) {
    // Beside the names: none, and the rest.
    assert!(page.values_of("model").len() <= MODELS_MAX + 2);
    assert!(page.values_of("credential").len() <= CREDENTIALS_MAX + 2);
    for label in ["outcome", "class", "side", "kind", "code", "dimension", "source", "version"] {
        assert!((1..=40).contains(&page.values_of(label).len()), "{label}: {:?}", page.values_of(label));
    }
}

#[test]
fn names_that_the_upstream_refuses_get_no_label() {
    let mut world = new_world(&[("RPS", "1000")]);
    serve(&mut world, "real", "kimi", "fw_1");
    let before = metrics(&mut world).samples().count();
    for number in 0..INVENTIONS {
        let name = format!("n{number}");
        ask(&mut world, &name, &format!("made up {number}"), &format!("fw_{number}"));
        world.refuse(&name, 404, "");
    }
    let page = metrics(&mut world);
    assert_bounded(&page);
    assert_eq!(page.values_of("model").into_iter().collect::<Vec<_>>(), ["", "kimi", "other"]);
    let others = page.sum("fireworks_proxy_requests_total", &[("model", "other")]);
    assert_eq!(others, f64::from(INVENTIONS));
    // The lanes of the rest, which are two at most: with the key that is known and with others.
    assert!(page.samples().count() <= before + 80, "{} after {before}", page.samples().count());
}

#[test]
fn names_that_the_upstream_likes_get_labels_while_there_is_room() {
    let mut world = new_world(&[("RPS", "1000")]);
    for number in 0..INVENTIONS {
        serve(&mut world, &format!("n{number}"), &format!("model {number}"), &format!("fw_{number}"));
    }
    let page = metrics(&mut world);
    assert_bounded(&page);
    assert_eq!(page.values_of("model").len(), MODELS_MAX + 2);
    let requests = |model: &str| page.sum("fireworks_proxy_requests_total", &[("model", model)]);
    assert_eq!(
        (requests("model 0"), requests("other")),
        (1.0, f64::from(INVENTIONS - u16::try_from(MODELS_MAX).expect("a few")))
    );
    assert!(page.samples().count() < 6_000, "{}", page.samples().count());
}

#[test]
fn a_long_name_is_cut_off() {
    let mut world = new_world(&[]);
    let name = "x".repeat(LABEL_CHARS_MAX);
    serve(&mut world, "a", &format!("{name}1"), "fw_1");
    serve(&mut world, "b", &format!("{name}2"), "fw_1");
    let page = metrics(&mut world);
    assert_eq!(page.sum("fireworks_proxy_requests_total", &[("model", &name)]), 2.0);
    assert_eq!(page.sum("fireworks_proxy_tokens_total", &[("model", &name), ("kind", "generated")]), 40.0);
}

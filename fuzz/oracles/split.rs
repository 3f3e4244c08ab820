//! An input in pieces, as a network might deliver it. The cuts are drawn from the input itself, so that a
//! seed is a plain file and the same input is always cut in the same places.

/// So many ways of cutting are tried, beside the input as a whole.
const CUTS: u64 = 4;

/// Each way of cutting `data`: byte by byte, and in several ways by chance. All pieces of a way together are
/// `data`; there may be empty ones.
pub fn splits(data: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let seed = data.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    std::iter::once(data.chunks(1).collect()).chain((0..CUTS).map(move |way| cut(data, seed ^ way << 32)))
}

fn cut(mut data: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut state = seed;
    let longest = (data.len() / 2).clamp(1, 4 << (seed >> 32 & 7)) + 1;
    let mut pieces = Vec::new();
    while !data.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = usize::try_from(state >> 33).unwrap_or(0) % (longest + 1);
        let (piece, rest) = data.split_at(length.min(data.len()));
        pieces.push(piece);
        data = rest;
    }
    pieces
}

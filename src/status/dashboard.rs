//! `/dashboard`: what the other pages say, for people.

use crate::http::write::Answer;

/// The page.
pub fn page() -> Answer {
    super::root()
}

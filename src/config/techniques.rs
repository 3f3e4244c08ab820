//! Which techniques the budgets use.

/// One technique of the budgets or of the queue. No setting switches one off; the bench of goodput does, one by one, to
/// show what each is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Technique {
    /// To learn how many tokens the kinds of content come to.
    PromptSize,
    /// To start the estimate of a prompt from what was reported of its beginning.
    Measured,
    /// To expect from the upstream's cache what was answered before.
    PromptCache,
    /// To learn how much is generated; else the reserve of the settings is held.
    Output,
    /// To correct that while an answer comes.
    Progress,
    /// To count what is charged later only when it will be.
    Foresight,
    /// To keep from using at once what may be used in a minute.
    Burst,
    /// To count what others on the account use.
    Others,
    /// To tell from what was let in before which limit a refusal was for.
    Suspicion,
    /// To let starts come apart near a limit, and to let them rise slowly after a refusal that no limit explains.
    SmoothStarts,
    /// To let sessions with the fewest requests under way go first.
    Shares,
    /// To let a request pass one that cannot start yet, where that is not delayed.
    Passing,
}

impl Technique {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::PromptSize,
        Self::Measured,
        Self::PromptCache,
        Self::Output,
        Self::Progress,
        Self::Foresight,
        Self::Burst,
        Self::Others,
        Self::Suspicion,
        Self::SmoothStarts,
        Self::Shares,
        Self::Passing,
    ];

    /// The name on the command line of the bench.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PromptSize => "prompt-size",
            Self::Measured => "measured",
            Self::PromptCache => "prompt-cache",
            Self::Output => "output",
            Self::Progress => "progress",
            Self::Foresight => "foresight",
            Self::Burst => "burst",
            Self::Others => "others",
            Self::Suspicion => "suspicion",
            Self::SmoothStarts => "smooth-starts",
            Self::Shares => "shares",
            Self::Passing => "passing",
        }
    }
}

/// The techniques in use; by default all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Techniques(u32);

impl Default for Techniques {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Techniques {
    /// The same but for one.
    #[must_use]
    pub const fn without(self, technique: Technique) -> Self {
        Self(self.0 & !(1 << technique as u32))
    }

    /// Whether one is in use.
    pub const fn has(self, technique: Technique) -> bool {
        self.0 & (1 << technique as u32) != 0
    }
}

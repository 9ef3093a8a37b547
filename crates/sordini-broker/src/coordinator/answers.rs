//! Requests that wait for a coordinator, and the answers that were found for them. Answers are
//! queued and delivered between requests, so that one that is found at once is no special case.

use std::collections::{BTreeMap, VecDeque};

use sordini_protocol::ErrorCode;

use super::Token;
use crate::api::Response;
use crate::api::produce::Verdicts;
use crate::broker::ConnectionId;

/// What was found for a request.
#[derive(Debug)]
pub(crate) enum Found {
    /// Its answer.
    Response(Response),
    /// It is refused as a whole.
    Refused(ErrorCode),
    /// Of each partition that was asked about, whether a Produce may go on.
    Checked(Verdicts),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    waiting: BTreeMap<Token, ConnectionId>,
    found: VecDeque<(Token, Found)>,
}

impl Answers {
    /// A connection's request waits under this name.
    pub(crate) fn wait(&mut self, token: Token, connection: ConnectionId) {
        self.waiting.insert(token, connection);
    }

    /// A connection is gone; what is found for it concerns nobody.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.waiting.retain(|_, of| *of != connection);
    }

    /// An answer was found.
    pub(crate) fn found(&mut self, token: Token, found: Found) {
        self.found.push_back((token, found));
    }

    /// The next answer, and whose it is.
    pub(crate) fn next(&mut self) -> Option<(ConnectionId, Token, Found)> {
        while let Some((token, found)) = self.found.pop_front() {
            if let Some(connection) = self.waiting.remove(&token) {
                return Some((connection, token, found));
            }
        }
        None
    }
}

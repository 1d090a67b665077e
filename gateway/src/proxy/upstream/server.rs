//! Decides what one worker knows of one server of an upstream.

use std::rc::Rc;

use super::{dial::Dialer, pool::Pool};
use crate::proxy::settings::Upstream;

/// One server.
pub(super) struct Server {
    pub(super) pool: Rc<Pool>,
}

impl Server {
    /// The server at `address`, which is `host:port`.
    pub(super) fn new(address: &str, settings: &Upstream) -> Self {
        Self { pool: Rc::new(Pool::new(Dialer::new(address), settings.max_idle, settings.idle)) }
    }
}

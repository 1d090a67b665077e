//! Bans as the proxy knows them: who is refused at accept and by request, and of which clients the guard hears good.

pub(super) mod enforced;
pub(super) mod good_clients;

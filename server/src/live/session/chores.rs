//! What others ask of a session: to close, to tell its client to leave, to look at calls that appeared, were merged or deleted.

use std::sync::Arc;
use std::time::Instant;

use callscope_common::protocol::{CallMerged, CloseReason, ErrorCode, ErrorMessage, Reconnect, ServerMessage};

use super::{Session, in_time};
use crate::live::wire::{Fate, Leave};
use crate::store::StoreError;

impl Session {
    /// Does what others asked for: close, drain, calls that appeared, were merged or deleted.
    pub(super) async fn chores(&mut self) -> Option<CloseReason> {
        let (named, leave, fates) = {
            let mut wire = self.connection.wire.lock();
            if wire.close.is_some() || wire.broken {
                return wire.close.or(Some(CloseReason::Normal));
            }
            let retries = self.storage_fails.as_ref().is_none_or(|outage| outage.again <= Instant::now());
            let fates: Vec<(u64, Fate)> = match retries {
                true => wire.subscriptions.iter().filter_map(|s| Some((s.id, s.fate?))).collect(),
                false => Vec::new(),
            };
            (std::mem::take(&mut wire.named), wire.leave.take(), fates)
        };
        if let (Some(leave), None) = (leave, self.leave_until) {
            let Leave { after, until } = *leave;
            self.leave_until = Some(until);
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            self.send(&ServerMessage::Reconnect(Reconnect { after_ms, reason: "the server is shutting down".into() }));
        }
        for identifier in named {
            if let Some(request) = self.pending.remove(&identifier) {
                Box::pin(self.subscribe(request)).await;
            }
        }
        for (id, fate) in fates {
            match Box::pin(self.meet(id, fate)).await {
                Ok(()) => self.storage_fails = None,
                Err(error) => self.storage_failed(&error),
            }
        }
        None
    }

    /// Ends a subscription whose call was merged or deleted; after a merge the surviving call is followed from its start.
    ///
    /// A failing storage leaves everything as it was, to be tried again.
    async fn meet(&mut self, id: u64, fate: Fate) -> Result<(), StoreError> {
        let survivor = match fate {
            Fate::Merged(into) => in_time(self.store.call_info(into)).await?,
            Fate::Deleted => None,
        };
        let Some(gone) = self.take(|s| s.id == id) else { return Ok(()) };
        self.hub.leave(&gone.feed, gone.member);
        for name in &gone.names {
            let identifier = name.as_str().to_owned();
            self.send(&match &survivor {
                Some(into) => ServerMessage::CallMerged(CallMerged {
                    identifier,
                    from_call_id: gone.feed.call_id,
                    call_id: into.call_id,
                    message: "this record is a part of another call, whose log follows from its start".into(),
                }),
                None => ServerMessage::Error(ErrorMessage {
                    message: "the call was deleted".into(),
                    code: ErrorCode::CallNotFound,
                    identifier: Some(identifier),
                    call_id: Some(gone.feed.call_id),
                }),
            });
        }
        let Some(into) = survivor else { return Ok(()) };
        let (call_id, names) = (into.call_id, gone.names);
        let followed = {
            let mut wire = self.connection.wire.lock();
            let other = wire.subscriptions.iter_mut().find(|s| s.feed.call_id == call_id);
            other.map(|other| {
                let new = names.iter().filter(|name| !other.names.contains(name)).cloned().collect::<Vec<_>>();
                other.names.extend(new);
                Arc::clone(&other.feed)
            })
        };
        let feed = followed.unwrap_or_else(|| self.follow(call_id, names.clone(), into.call_sid.clone(), 0));
        // Read anew, since it is followed only now; should this fail, the sweep finds the head.
        let info = in_time(self.store.call_info(call_id)).await.ok().flatten().unwrap_or(into);
        for name in &names {
            self.confirm(name, &info, "subscribed after a merge");
        }
        if let Some(s) = self.connection.wire.lock().subscriptions.iter_mut().find(|s| Arc::ptr_eq(&s.feed, &feed)) {
            s.confirm(info.head);
        }
        self.hub.raise(&feed, info.head, info.status.is_ended());
        Ok(())
    }
}

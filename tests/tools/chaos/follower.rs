//! The subscribers: each follows calls over as many connections as it takes, behind the last seq it took.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use callscope_tests::Socket;
use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout_at};

use crate::evidence::Wrong;
use crate::kind::Kind;
use crate::link::{Told, connect, send};
use crate::plan::{Plan, Shape};
use crate::track::{Start, Track};
use crate::world::World;

/// Between two looks at whether there is something else to do.
const TICK: Duration = Duration::from_millis(200);
/// An ended subscription is kept for so long: what was committed together with the end may still come.
const LINGER: Duration = Duration::from_secs(3);

/// A subscriber.
#[derive(Debug)]
pub struct Follower {
    world: Arc<World>,
    kind: Kind,
    who: String,
    rng: Rng,
    tracks: Vec<Track>,
    /// Subscriptions that ended, and when that was seen.
    over: Vec<(Track, Instant)>,
    /// Identifiers asked for on the present connection, and the numbers of their calls.
    asked: Vec<(String, usize)>,
    /// Requests to be made again, since the storage did not answer.
    again: Vec<usize>,
    pause: Duration,
    /// Takes no end for an answer before all heads are reached.
    is_strict: bool,
}

impl Follower {
    /// One of that kind.
    #[must_use]
    pub fn new(world: Arc<World>, kind: Kind, number: usize, rng: Rng) -> Self {
        let who = format!("{kind:?} {number}");
        Self {
            world,
            kind,
            who,
            rng,
            tracks: Vec::new(),
            over: Vec::new(),
            asked: Vec::new(),
            again: Vec::new(),
            pause: Duration::ZERO,
            is_strict: false,
        }
    }

    /// One that has nothing else to do than to catch these up.
    #[must_use]
    pub fn catching_up(world: Arc<World>, number: usize, rng: Rng, mut tracks: Vec<Track>) -> Self {
        for track in &mut tracks {
            track.is_over = false;
        }
        Self { tracks, is_strict: true, ..Self::new(world, Kind::Live, number, rng) }
    }

    /// Follows until the run is over; returns what it followed.
    pub async fn follow(mut self) -> Vec<Track> {
        while !self.is_done() {
            self.choose();
            if self.tracks.is_empty() {
                sleep(TICK).await;
                continue;
            }
            self.connection().await;
            for track in self.tracks.iter_mut().chain(self.over.iter_mut().map(|(track, _)| track)) {
                track.confirmed = None;
                track.asked.clear();
            }
            self.settle_over(Duration::ZERO);
            let jitter = Duration::from_millis(self.rng.u64(5..40));
            sleep(std::mem::take(&mut self.pause) + jitter).await;
        }
        self.over.into_iter().map(|(track, _)| track).chain(self.tracks).collect()
    }

    /// Whether all it follows has reached the heads, once these are final.
    fn is_done(&mut self) -> bool {
        let world = Arc::clone(&self.world);
        let Some(heads) = world.heads() else { return false };
        // Whoever waited for a call that was never made waits for nothing.
        self.tracks.retain(|track| heads.contains_key(&track.call.plan.index));
        let has_all = |track: &Track| {
            let is_there = track.base.is_some() && track.last >= heads[&track.call.plan.index];
            is_there || (track.is_over && !self.is_strict)
        };
        world.has_given_up() || self.tracks.iter().all(has_all)
    }

    /// Takes on further calls, where there is room.
    fn choose(&mut self) {
        if self.world.is_closing() {
            return;
        }
        for _ in self.tracks.len()..self.kind.room() {
            let newest = self.world.book.newest(if self.kind == Kind::Late { 200 } else { 60 });
            let fits = |call: &Arc<super::book::CallBook>| {
                let is_followed = self.tracks.iter().any(|track| track.call.plan.index == call.plan.index);
                let lingers = self.over.iter().any(|(track, _)| track.call.plan.index == call.plan.index);
                let is_right = match self.kind {
                    Kind::Late => call.has_ended(),
                    Kind::Waiting => !call.has_ended(),
                    Kind::NoHistory => !call.known().is_empty(),
                    _ => !call.has_ended() && !call.known().is_empty(),
                };
                is_right && !is_followed && !lingers
            };
            let calls: Vec<_> = newest.into_iter().filter(fits).collect();
            if calls.is_empty() {
                return;
            }
            let call = Arc::clone(&calls[self.rng.usize(..calls.len())]);
            // Who waits may do so by a name that becomes known only at the end.
            let names = if self.kind == Kind::Waiting { call.plan.names.clone() } else { call.known() };
            let name = names[self.rng.usize(..names.len())].clone();
            let start = if self.kind == Kind::NoHistory { Start::Live } else { Start::History };
            self.tracks.push(Track::new(call, &self.who, name, start, self.kind == Kind::Waiting));
        }
    }

    /// One connection, from the upgrade to its end.
    async fn connection(&mut self) {
        let address = self.world.socket(&mut self.rng);
        let Some(mut socket) = connect(address, &self.world.token, self.kind == Kind::Slow).await else { return };
        self.world.book.counts.connections.fetch_add(1, Ordering::Relaxed);
        self.asked.clear();
        self.again.clear();
        for at in 0..self.tracks.len() {
            self.ask(&mut socket, at).await;
        }
        let (mut taken, mut tick) = (0_u32, Instant::now() + TICK);
        while !self.is_done() {
            match timeout_at(tick, socket.next()).await {
                Ok(Ok(text)) => {
                    self.told(&text);
                    taken += 1;
                    if self.kind == Kind::Slow && taken.is_multiple_of(6) && !self.world.is_closing() {
                        sleep(Duration::from_millis(self.rng.u64(100..4_000))).await;
                    }
                }
                Ok(Err(code)) => return self.closed(code),
                Err(_) => {}
            }
            if Instant::now() >= tick {
                self.look_around(&mut socket).await;
                tick = Instant::now() + TICK;
            }
            if self.tracks.is_empty() && self.over.is_empty() && (self.world.is_closing() || self.rng.bool()) {
                // Some come anew for each call, others stay.
                return;
            }
        }
    }

    /// Whatever is due besides reading.
    async fn look_around(&mut self, socket: &mut Socket) {
        self.settle_over(LINGER);
        for index in std::mem::take(&mut self.again) {
            if let Some(at) = self.tracks.iter().position(|track| track.call.plan.index == index) {
                self.ask(socket, at).await;
            }
        }
        // Asked for once more while it is followed, perhaps by another name: confirmed twice, delivered once.
        if !self.tracks.is_empty() && self.rng.u8(..8) == 0 {
            let at = self.rng.usize(..self.tracks.len());
            // The two names of such a call lead to two records until it ends.
            if self.tracks[at].confirmed.is_some() && self.tracks[at].call.plan.shape != Shape::TwoNames {
                self.ask(socket, at).await;
            }
        }
        let before = self.tracks.len();
        self.choose();
        for at in before..self.tracks.len() {
            self.ask(socket, at).await;
        }
    }

    async fn ask(&mut self, socket: &mut Socket, at: usize) {
        let track = &self.tracks[at];
        let mut names = vec![track.name.clone()];
        if track.base.is_some() {
            // Resuming by any name is the same, its own id included.
            names.extend(track.call.known());
            names.extend(track.life.map(|life| life.to_string()));
        }
        let name = names[self.rng.usize(..names.len())].clone();
        let stands = self.tracks[at].last;
        self.tracks[at].asked.push(stands);
        let track = &self.tracks[at];
        self.asked.push((name.clone(), track.call.plan.index));
        send(socket, &track.request(&name)).await;
    }

    fn closed(&mut self, code: u16) {
        let book = &self.world.book;
        *book.counts.closes.lock().unwrap().entry(code).or_default() += 1;
        match code {
            1000 | 1001 | 1005 | 1006 | 4201 => {}
            4101 | 4104 => self.pause = Duration::from_millis(self.rng.u64(20..200)),
            _ => book.evidence.add(Wrong::Refused, || format!("{}: closed with {code}", self.who)),
        }
    }

    /// Takes a message in.
    fn told(&mut self, text: &str) {
        let Ok(told) = serde_json::from_str::<Told>(text) else {
            self.world.book.evidence.add(Wrong::Altered, || format!("{}: no message: {text:.200}", self.who));
            return;
        };
        match told.r#type.as_str() {
            "transcription" | "call_status" | "call_completed" => self.event(&told, text),
            "subscription_confirmed" => {
                let ended = told.status.as_deref().is_some_and(|status| matches!(status, "completed" | "failed"));
                let world = Arc::clone(&self.world);
                let cursor = told.cursor.as_deref().unwrap_or_default();
                if let (Some(track), Some(life), Some(head)) = (self.asked_for(&told), told.call_id, told.seq) {
                    let is_new = told.message.as_deref() == Some("subscribed");
                    track.confirm(life, (head, cursor, is_new), ended, &world.book.evidence);
                }
                self.sort_out();
            }
            "call_merged" => {
                self.world.book.counts.merges.fetch_add(1, Ordering::Relaxed);
                if let Some(track) = self.asked_for(&told) {
                    track.restart();
                    track.life = told.call_id;
                }
            }
            "error" => self.refused(&told),
            "reconnect" => self.pause = Duration::from_millis(told.after_ms.unwrap_or(0).min(1_000)),
            _ => {}
        }
    }

    /// The subscription that a message about an identifier belongs to.
    fn asked_for(&mut self, told: &Told) -> Option<&mut Track> {
        let identifier = told.identifier.as_ref()?;
        let index = self.asked.iter().rev().find(|(name, _)| name == identifier)?.1;
        let over = self.over.iter_mut().map(|(track, _)| track);
        self.tracks.iter_mut().chain(over).find(|track| track.call.plan.index == index)
    }

    fn event(&mut self, told: &Told, text: &str) {
        let world = Arc::clone(&self.world);
        let names = [&told.call_sid, &told.conversation_id];
        let index = names.into_iter().flatten().find_map(|name| Plan::index_of(name));
        let over = self.over.iter_mut().map(|(track, _)| track);
        let track = self.tracks.iter_mut().chain(over).find(|track| Some(track.call.plan.index) == index);
        let (Some(track), Some(seq)) = (track, told.seq) else {
            // Of a subscription that ended a while ago.
            let is_ours = self.asked.iter().any(|(_, asked)| Some(*asked) == index);
            if !is_ours {
                world.book.evidence.add(Wrong::Alien, || format!("{}: not asked for: {text:.200}", self.who));
            }
            return;
        };
        world.book.counts.received.fetch_add(1, Ordering::Relaxed);
        let is_next = track.take(seq, text, &world.book.evidence);
        if let (true, Some(said), Some(confirmed)) =
            (is_next && self.kind != Kind::Slow, &told.message_text, track.confirmed)
        {
            let now = Instant::now();
            // Behind an answer that is still on its way nothing is stale.
            if let Some(acknowledged) = track.call.acknowledged_at(said)
                && acknowledged.is_none_or(|at| at > confirmed)
            {
                world.weather.sample(acknowledged.unwrap_or(now), now);
            }
        }
        if told.r#type == "call_completed" {
            track.is_over = true;
            self.sort_out();
        }
    }

    fn refused(&mut self, told: &Told) {
        let world = Arc::clone(&self.world);
        let who = self.who.clone();
        let Some(track) = self.asked_for(told) else {
            world.book.evidence.add(Wrong::Refused, || format!("{who}: {told:?}"));
            return;
        };
        let index = track.call.plan.index;
        track.refuse(told.code.as_deref(), told.message.as_deref(), &world.book.evidence);
        self.again.push(index);
    }

    /// Puts subscriptions that ended aside.
    fn sort_out(&mut self) {
        if self.world.heads().is_some() {
            return;
        }
        let (over, tracks) = std::mem::take(&mut self.tracks).into_iter().partition(|track| track.is_over);
        self.tracks = tracks;
        self.over.extend(Vec::into_iter(over).map(|track| (track, Instant::now())));
    }

    fn settle_over(&mut self, after: Duration) {
        let (old, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.over).into_iter().partition(|(_, since)| since.elapsed() >= after);
        self.over = rest;
        self.world.archive(old.into_iter().map(|(track, _)| track));
    }
}

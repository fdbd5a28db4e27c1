//! A model of the queue and the accounts, as simple as can be: lists in memory.

use kinora_serve::store::Status;

/// An owner of the model.
pub struct Owner {
    pub name: &'static str,
    /// Credits of a day.
    pub credits: Option<i64>,
    /// Clips at once.
    pub running: Option<u64>,
    /// Clips waiting and running.
    pub active: Option<u64>,
    /// The day that the account has seen last, with what is left of it.
    pub day: Option<i64>,
    pub left: i64,
    /// The number of the last turn, and when the owner was first seen.
    pub turn: Option<(u64, usize)>,
    /// Unfinished clips in their order.
    pub order: Vec<usize>,
}

pub struct Clip {
    pub id: String,
    pub owner: usize,
    pub status: Status,
    pub attempt: i64,
    pub deaths: i64,
    pub paused: bool,
    pub progress: u8,
    pub cost: i64,
    pub charged: Option<i64>,
    pub starred: bool,
    pub deleted: bool,
    pub expires_at: Option<i64>,
    pub reserved_on: i64,
    pub inputs: Vec<usize>,
}

pub struct Model {
    pub owners: Vec<Owner>,
    pub clips: Vec<Clip>,
    pub today: i64,
    pub turns: u64,
}

/// Clips that may wait.
pub const QUEUE: u64 = 12;

/// Why the model refuses.
#[derive(Debug, PartialEq)]
pub enum Refusal {
    NotFound,
    State,
    InUse,
    Concurrency,
    QueueFull,
    Credits { needed: i64, left: i64 },
}

impl Model {
    pub fn new(today: i64) -> Self {
        let owner = |name, credits, running, active| Owner {
            name,
            credits,
            running,
            active,
            day: None,
            left: 0,
            turn: None,
            order: Vec::new(),
        };
        let owners = vec![
            owner("a", Some(30), Some(1), Some(6)),
            owner("b", Some(100), Some(2), None),
            owner("local", None, None, None),
        ];
        Self { owners, clips: Vec::new(), today, turns: 0 }
    }

    pub fn queued(&self, owner: usize) -> Vec<usize> {
        let order = self.owners[owner].order.iter().copied();
        order.filter(|clip| self.clips[*clip].status == Status::Queued).collect()
    }

    pub fn held(&self) -> Vec<usize> {
        let held = |clip: &Clip| matches!(clip.status, Status::Running | Status::Cancelling);
        (0..self.clips.len()).filter(|clip| held(&self.clips[*clip])).collect()
    }

    /// What the owner could spend today.
    pub fn left(&self, owner: usize) -> Option<i64> {
        let owner = &self.owners[owner];
        let seen = owner.day.is_some_and(|day| day >= self.today);
        owner.credits.map(|credits| if seen { owner.left } else { credits })
    }

    fn begin_day(&mut self, owner: usize) -> i64 {
        let (today, left) = (self.today, self.left(owner));
        let owner = &mut self.owners[owner];
        owner.left = left.unwrap_or(0);
        let day = owner.day.map_or(today, |day| day.max(today));
        owner.day = Some(day);
        day
    }

    pub fn may_insert(&self, owner: usize, cost: i64, input: Option<usize>) -> Result<(), Refusal> {
        let active = self.owners[owner].order.len() as u64;
        if self.owners[owner].active.is_some_and(|limit| active >= limit) {
            return Err(Refusal::Concurrency);
        }
        if (0..self.owners.len()).map(|owner| self.queued(owner).len() as u64).sum::<u64>() >= QUEUE {
            return Err(Refusal::QueueFull);
        }
        if input.is_some_and(|input| self.clips[input].deleted || self.clips[input].owner != owner) {
            return Err(Refusal::NotFound);
        }
        match self.left(owner) {
            Some(left) if left < cost => Err(Refusal::Credits { needed: cost, left }),
            _ => Ok(()),
        }
    }

    pub fn insert(&mut self, id: String, owner: usize, cost: i64, paused: bool, input: Option<usize>) {
        let reserved_on = self.begin_day(owner);
        let cost = if self.owners[owner].credits.is_some() { cost } else { 0 };
        let seen = self.owners.iter().filter(|owner| owner.turn.is_some()).count();
        self.owners[owner].left -= cost;
        self.owners[owner].turn.get_or_insert((0, seen));
        self.owners[owner].order.push(self.clips.len());
        self.clips.push(Clip {
            id,
            owner,
            status: Status::Queued,
            attempt: 0,
            deaths: 0,
            paused,
            progress: 0,
            cost,
            charged: None,
            starred: false,
            deleted: false,
            expires_at: None,
            reserved_on,
            inputs: input.into_iter().collect(),
        });
    }

    /// Claims the next clip.
    pub fn claim(&mut self) -> Option<usize> {
        let mut owners: Vec<_> = (0..self.owners.len()).filter(|owner| self.owners[*owner].turn.is_some()).collect();
        owners.sort_by_key(|owner| self.owners[*owner].turn);
        let next = owners.into_iter().find_map(|owner| {
            let held = self.held().into_iter().filter(|clip| self.clips[*clip].owner == owner).count() as u64;
            let may = self.owners[owner].running.is_none_or(|limit| held < limit);
            self.queued(owner).into_iter().find(|clip| may && !self.clips[*clip].paused)
        })?;
        self.turns += 1;
        let owner = &mut self.owners[self.clips[next].owner];
        owner.turn = owner.turn.map(|(_, seen)| (self.turns, seen));
        let clip = &mut self.clips[next];
        (clip.status, clip.progress) = (Status::Running, 0);
        clip.attempt += 1;
        Some(next)
    }

    /// Ends a clip; `charged` says whether its credits are spent.
    pub fn end(&mut self, index: usize, status: Status, charged: bool) {
        let clip = &mut self.clips[index];
        let owner = &mut self.owners[clip.owner];
        if !charged && owner.day == Some(clip.reserved_on) {
            owner.left += clip.cost;
        }
        owner.order.retain(|other| *other != index);
        clip.charged = Some(if charged { clip.cost } else { 0 });
        (clip.status, clip.paused, clip.inputs) = (status, false, Vec::new());
    }

    pub fn requeue(&mut self, index: usize, died: bool) -> Status {
        let clip = &mut self.clips[index];
        clip.deaths += i64::from(died);
        let status = match clip.status {
            Status::Cancelling => Status::Cancelled,
            _ if clip.deaths >= 3 => Status::Failed,
            _ => Status::Queued,
        };
        if status == Status::Queued {
            (clip.status, clip.progress) = (status, 0);
        } else {
            self.end(index, status, false);
        }
        status
    }

    pub fn find(&self, owner: usize, index: usize) -> Result<&Clip, Refusal> {
        let clip = &self.clips[index];
        if clip.deleted || clip.owner != owner { Err(Refusal::NotFound) } else { Ok(clip) }
    }

    pub fn find_queued(&self, owner: usize, index: usize) -> Result<&Clip, Refusal> {
        let clip = self.find(owner, index)?;
        if clip.status == Status::Queued { Ok(clip) } else { Err(Refusal::State) }
    }

    pub fn edit(&mut self, owner: usize, index: usize, cost: i64) -> Result<(), Refusal> {
        self.find_queued(owner, index)?;
        let cost = if self.owners[owner].credits.is_some() { cost } else { 0 };
        let (before, day) = (self.clips[index].cost, self.clips[index].reserved_on);
        if cost != before {
            let today = self.begin_day(owner);
            let back = if day == today { before } else { 0 };
            let left = self.owners[owner].left + back;
            if cost > left {
                return Err(Refusal::Credits { needed: cost, left });
            }
            self.owners[owner].left = left - cost;
            (self.clips[index].cost, self.clips[index].reserved_on) = (cost, today);
        }
        self.clips[index].inputs.clear();
        Ok(())
    }

    pub fn move_before(&mut self, owner: usize, index: usize, other: Option<usize>) -> Result<(), Refusal> {
        self.find_queued(owner, index)?;
        other.map_or(Ok(()), |other| self.find_queued(owner, other).map(|_| ()))?;
        if other == Some(index) {
            return Ok(());
        }
        let order = &mut self.owners[owner].order;
        order.retain(|clip| *clip != index);
        let place = other.map_or(0, |other| order.iter().position(|clip| *clip == other).expect("a queued clip"));
        order.insert(place, index);
        Ok(())
    }

    pub fn is_needed(&self, index: usize) -> bool {
        self.clips.iter().any(|clip| clip.inputs.contains(&index))
    }
}

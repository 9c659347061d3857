//! Who works where and when: shifts, breaks, and moves from till to till during a shift.
//!
//! A store's day is planned as a whole, from the seed, the store and the day alone. No till has two people at a time,
//! nobody is at two tills, and between two tills lies more time than the fraud rules need to tell a move from a shared login.

use std::collections::VecDeque;

use super::random::{Purpose, Random};
use super::scenario::{Calendar, MINUTE, Options};

/// One person at one till, from login to logout.
#[derive(Debug, Clone)]
pub(super) struct Stint {
    /// Number of the employee, from 0 over all stores.
    pub employee: u32,
    /// Login, milliseconds since the epoch.
    pub from: i64,
    /// Logout, unless the last basket takes longer.
    pub to: i64,
    /// Why the employee logs out.
    pub leaving: &'static str,
}

/// The stints of one store on one day, for each of its tills in the order of time.
pub(super) fn plan_day(options: &Options, calendar: &Calendar, store: u32, day: i64) -> Vec<VecDeque<Stint>> {
    let number = u64::from(store) << 32 | day.unsigned_abs();
    let mut random = Random::new(options.seed, Purpose::DayPlan, number);
    let mut staff: Vec<u32> =
        (0..options.employees.max(options.stores)).filter(|e| e % options.stores == store).collect();
    random.shuffle(&mut staff);
    let shifts = calendar.shifts(day);
    let tills = usize::try_from(options.terminals).expect("a till count fits");
    let crew_size = (staff.len() / shifts.len()).clamp(1, tills);
    let mut plan = vec![VecDeque::new(); tills];
    for (number, (begin, length)) in shifts.into_iter().enumerate() {
        let crew = (0..crew_size).map(|place| staff[(number * crew_size + place) % staff.len()]);
        let mut shift = Shift::new(options, &mut random, begin, length, number == 0, day == 0);
        shift.assign(crew.collect(), &mut plan);
    }
    for till in &mut plan {
        till.make_contiguous().sort_by_key(|stint| stint.from);
    }
    plan
}

struct Shift<'a> {
    random: &'a mut Random,
    begin: i64,
    end: i64,
    tills: usize,
    /// Time that somebody needs from one till to another.
    walk: i64,
    opens_day: bool,
    /// On the first day of stores that never close, tills start one after the other from the first second on.
    eager: bool,
}

/// One employee at one till, before breaks are cut out.
struct Place {
    employee: u32,
    till: usize,
    from: i64,
}

impl<'a> Shift<'a> {
    fn new(
        options: &Options,
        random: &'a mut Random,
        begin: i64,
        length: i64,
        opens_day: bool,
        first_day: bool,
    ) -> Self {
        let tills = usize::try_from(options.terminals).expect("a till count fits");
        let walk = 2 * MINUTE * options.speed().min(60);
        let eager = options.always_open && first_day && opens_day;
        Self { random, begin, end: begin + length, tills, walk, opens_day, eager }
    }

    fn assign(&mut self, crew: Vec<u32>, plan: &mut [VecDeque<Stint>]) {
        let mut free: Vec<usize> = (0..self.tills).collect();
        if !self.eager {
            self.random.shuffle(&mut free);
        }
        let mut places: Vec<Place> = Vec::with_capacity(crew.len());
        for (employee, till) in crew.into_iter().zip(free) {
            let from = self.first_login(places.len());
            places.push(Place { employee, till, from });
        }
        let mut free: Vec<usize> =
            (0..self.tills).filter(|till| places.iter().all(|place| place.till != *till)).collect();
        let length = self.end - self.begin;
        for third in 1..3 {
            let boundary = self.begin + length * third / 3 + self.random.between(-10 * MINUTE, 10 * MINUTE);
            self.rotate(boundary, &mut places, &mut free, plan);
        }
        for place in places {
            let to = self.end - self.random.between(MINUTE, 3 * MINUTE);
            self.add(&place, to, "shift_end", plan);
        }
    }

    fn first_login(&mut self, place: usize) -> i64 {
        if self.eager {
            let turn = i64::try_from(place).unwrap_or(i64::MAX / 100_000);
            return self.begin + (turn * 12_000).min(15 * MINUTE);
        }
        let earliest = if self.opens_day { 0 } else { MINUTE };
        self.begin + self.random.between(earliest, earliest + 5 * MINUTE)
    }

    /// About a third of the crew changes tills; who stays where they are goes on without a logout.
    fn rotate(&mut self, boundary: i64, places: &mut [Place], free: &mut [usize], plan: &mut [VecDeque<Stint>]) {
        let movers: Vec<usize> = (0..places.len()).filter(|_| self.random.percent(35)).collect();
        let mut targets: Vec<usize> = movers.iter().map(|mover| places[*mover].till).collect();
        match free.first_mut() {
            Some(spare) if !targets.is_empty() => {
                targets.rotate_left(1);
                let last = targets.len() - 1;
                std::mem::swap(&mut targets[last], spare);
                free.rotate_left(1);
            }
            _ if targets.len() >= 2 => targets.rotate_left(1),
            _ => return,
        }
        for (mover, till) in movers.into_iter().zip(targets) {
            let to = boundary - self.random.between(0, MINUTE);
            self.add(&places[mover], to, "till_change", plan);
            let place = &mut places[mover];
            place.till = till;
            place.from = boundary + 5 * MINUTE + self.walk + self.random.between(0, 2 * MINUTE);
        }
    }

    /// Adds a stint; a long one gets a break.
    fn add(&mut self, place: &Place, to: i64, leaving: &'static str, plan: &mut [VecDeque<Stint>]) {
        let &Place { employee, till, from } = place;
        let length = to - from;
        if length < 15 * MINUTE {
            return;
        }
        if length > 150 * MINUTE || (length > 100 * MINUTE && self.random.percent(40)) {
            let pause = from + length * self.random.between(40, 60) / 100;
            let back = pause + self.random.between(15 * MINUTE, 30 * MINUTE);
            plan[till].push_back(Stint { employee, from, to: pause, leaving: "break" });
            plan[till].push_back(Stint { employee, from: back, to, leaving });
        } else {
            plan[till].push_back(Stint { employee, from, to, leaving });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn assert_nobody_overlaps(options: &Options) {
        let calendar = Calendar::new(options);
        for day in 0..5 {
            let plan = plan_day(options, &calendar, 0, day);
            let mut by_employee: BTreeMap<u32, Vec<(i64, i64)>> = BTreeMap::new();
            for till in &plan {
                let spans: Vec<(i64, i64)> = till.iter().map(|stint| (stint.from, stint.to)).collect();
                assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0), "two people at one till on day {day}");
                for stint in till {
                    by_employee.entry(stint.employee).or_default().push((stint.from, stint.to));
                }
            }
            for (employee, mut spans) in by_employee {
                spans.sort_unstable();
                assert!(
                    spans.windows(2).all(|pair| pair[1].0 - pair[0].1 > 60_000),
                    "employee {employee} on day {day}"
                );
            }
        }
    }

    #[test]
    fn nobody_is_at_two_tills_and_no_till_has_two_people() {
        for (terminals, employees) in [(1, 1), (1, 2), (4, 8), (10, 7), (30, 90)] {
            for always_open in [false, true] {
                let options = Options { stores: 1, terminals, employees, always_open, ..Options::default() };
                assert_nobody_overlaps(&options);
            }
        }
    }

    #[test]
    fn people_change_tills_and_take_breaks() {
        let options = Options { stores: 1, terminals: 10, employees: 20, ..Options::default() };
        let plan = plan_day(&options, &Calendar::new(&options), 0, 0);
        let leaving = |reason| plan.iter().flatten().filter(|stint| stint.leaving == reason).count();
        assert!(leaving("break") > 0 && leaving("till_change") > 0 && leaving("shift_end") == 20);
    }
}

//! What the guard makes of what proxies say of quotas, and what a file has of it after a restart.

use std::{fs, path::PathBuf};

use super::{
    book::{Book, QuotaRows},
    store::QuotaStore,
};
use crate::{
    message::channel::sealed::unseal,
    os::clock::{Now, SECOND},
    policy::limit::{
        quota::{QuotaSpan, UsedRow},
        quotas::{QuotaReport, QuotaState},
    },
    settings::limit::{
        self, Allowance, Cost, Except, KeyPart, Limit,
        quota::{Period, Quota, QuotaHeaders, WhenFull},
    },
};

const COUNTS: &str = "requests of principal per day in UTC";
const NOON: u64 = 1_773_144_000_000;

fn settings(names: &[&str], capacity: usize) -> limit::Settings {
    let limit = |name: &&str| Limit {
        name: (*name).to_owned(),
        by: vec![KeyPart::Principal],
        allowance: Allowance::Quota(100),
        cost: Cost::Requests,
        routes: None,
        weights: Vec::new(),
        except: Except::default(),
        capacity,
        delay: std::time::Duration::ZERO,
        headers: true,
        shadow: false,
        shared: false,
        clamp: None,
        quota: Some(Quota {
            period: Period::Day,
            zone_name: "UTC".to_owned(),
            zone: jiff::tz::TimeZone::UTC,
            warn_at: Vec::new(),
            when_full: WhenFull::Share,
            headers: QuotaHeaders::default(),
        }),
    };
    limit::Settings { limits: names.iter().map(limit).collect(), ..limit::Settings::default() }
}

fn now(hours: u64) -> Now {
    Now { monotonic: (1_000 + hours) * 3_600 * SECOND, unix_millis: NOON + hours * 3_600_000 }
}

/// The day that [`now`] is in, or one after it.
fn day(number: i64) -> QuotaSpan {
    let start = i64::try_from(NOON).unwrap() - 12 * 3_600_000 + number * 86_400_000;
    let ends = now(12).monotonic + u64::try_from(number).unwrap() * 86_400 * SECOND;
    QuotaSpan { start, end: start + 86_400_000, again: 0, ends }
}

fn report(span: QuotaSpan, rows: &[(u64, i64, bool)]) -> QuotaReport {
    let row = |(key, units, is_whole): &(u64, i64, bool)| UsedRow {
        key: *key,
        units: *units,
        is_whole: *is_whole,
        name: Some(format!("principal=p{key}")),
    };
    let rows = rows.iter().map(row).collect();
    QuotaReport {
        quota: "daily".to_owned(),
        counts: COUNTS.to_owned(),
        span,
        rows,
        warned: Vec::new(),
        words: Vec::new(),
    }
}

fn book(capacity: usize) -> Book {
    let mut book = Book::default();
    book.configure(&settings(&["daily"], capacity), now(0));
    book
}

/// What a proxy that starts is handed.
fn handed(book: &Book) -> Vec<(u64, u64)> {
    let Some((_, mut files)) = book.opening().unwrap() else { return Vec::new() };
    let states: Vec<QuotaState> = unseal(files.remove(0)).unwrap();
    let mut rows = states.into_iter().flat_map(|state| state.rows).collect::<Vec<_>>();
    rows.sort_unstable();
    rows
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-quotas-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn open(&self, boot: &str) -> QuotaStore {
        QuotaStore::open(&self.0, boot).unwrap().0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

#[test]
fn what_proxies_say_adds_up() {
    let mut book = book(1_000);
    let others = book.add(report(day(0), &[(1, 5, false), (2, 7, false)]), now(0)).unwrap();
    assert_eq!(others.rows.iter().map(|row| (row.key, row.units)).collect::<Vec<_>>(), [(1, 5), (2, 7)]);
    assert!(others.rows.iter().all(|row| row.name.is_none()), "other proxies know no names");
    book.add(report(day(0), &[(1, 3, false), (2, -7, false)]), now(0));
    assert_eq!(handed(&book), [(1, 8), (2, 0)]);
    // One that was there before this guard says all that it knows, which may be known already.
    assert!(book.add(report(day(0), &[(1, 8, true), (3, 4, true)]), now(0)).is_none());
    assert_eq!(handed(&book), [(1, 8), (2, 0), (3, 4)]);
    assert_eq!(book.name("daily", 1), "principal=p1");
    let (top, _) = book.top();
    assert_eq!((top.len(), top[0].key.as_deref(), top[0].used), (3, Some("principal=p1"), Some(8)));
    // Another day; what is said of the one before comes too late.
    book.add(report(day(1), &[(9, 1, false)]), now(24));
    assert!(book.add(report(day(0), &[(1, 5, false)]), now(24)).is_none());
    assert_eq!(handed(&book), [(9, 1)]);
    // What is not configured is not believed.
    let other = QuotaReport { quota: "other".to_owned(), ..report(day(1), &[(9, 5, false)]) };
    assert!(book.add(other, now(24)).is_none());
    let other = QuotaReport { counts: "other".to_owned(), ..report(day(1), &[(9, 5, false)]) };
    assert!(book.add(other, now(24)).is_none());
    assert_eq!(handed(&book), [(9, 1)]);
}

/// A proxy in wrong hands neither ends a period nor begins another one: what others say goes on counting.
#[test]
fn d07_periods_are_those_of_the_guard() {
    let far = QuotaSpan { start: 0, end: i64::MAX, again: 0, ends: u64::MAX };
    for (said, hours, is_believed) in [
        (day(0), 1, true),
        (QuotaSpan { ends: u64::MAX, ..day(0) }, 1, true),
        (QuotaSpan { ends: 1, ..day(0) }, 1, true),
        (QuotaSpan { again: 1, ..day(0) }, 1, false),
        (QuotaSpan::default(), 1, false),
        (far, 1, false),
        (day(1), 1, false),
        (day(1), 12, true),
        (day(2), 12, false),
    ] {
        for is_known in [true, false] {
            let mut book = book(10);
            if is_known {
                book.add(report(day(0), &[(1, 5, false)]), now(0));
            }
            book.add(report(said, &[(1, 100, false)]), now(hours));
            let present = day(i64::from(hours >= 12));
            let before = if is_known && hours < 12 { 5 } else { 0 };
            book.add(report(present, &[(1, 1, false)]), now(hours));
            let believed = if is_believed { 100 } else { 0 };
            assert_eq!(handed(&book), [(1, before + believed + 1)], "{said:?} {hours} {is_known}");
            let (_, mut files) = book.opening().unwrap().unwrap();
            let states: Vec<QuotaState> = unseal(files.remove(0)).unwrap();
            assert_eq!(states[0].span, present, "{said:?} {hours} {is_known}");
        }
    }
}

/// What was used up for some minutes is given back by an operator alone, and what is added up ends somewhere.
#[test]
fn proxies_give_back_what_was_added_of_late() {
    let minutes = |minutes: u64| Now { monotonic: minutes * 60 * SECOND, unix_millis: NOON + minutes * 60_000 };
    // When 100 units were used up, and when some are given back; whether an operator has asked for it.
    for (given_back, when, by_operator, left) in [
        (-10, 0, false, 90),
        (-100, 0, false, 0),
        (i64::MIN, 0, false, 0),
        (-100, 1, false, 50),
        (-100, 100, false, 100),
        (i64::MIN, 100, false, 100),
        (-100, 100, true, 0),
        (i64::MIN, 100, true, 0),
        (i64::MAX, 100, false, i64::MAX.cast_unsigned()),
    ] {
        let mut book = Book::default();
        book.configure(&settings(&["daily"], 10), minutes(0));
        book.add(report(day(0), &[(1, 100, false)]), minutes(0));
        if by_operator {
            book.operator_gives_back(minutes(when));
        }
        let told = book.add(report(day(0), &[(1, given_back, false)]), minutes(when)).unwrap();
        assert_eq!(handed(&book), [(1, left)], "{given_back} {when} {by_operator}");
        if given_back < 0 && !by_operator {
            assert_eq!(told.rows[0].units, left.cast_signed() - 100, "others are told no more than that");
        }
    }
}

#[test]
fn d06_it_has_room_for_so_many() {
    let mut book = book(10);
    for key in 0..100 {
        book.add(report(day(0), &[(key, 1, false)]), now(0));
    }
    assert_eq!((handed(&book).len(), book.dropped()), (20, 80));
    book.add(report(day(0), &[(0, 1, false)]), now(0));
    assert_eq!(handed(&book)[0], (0, 2), "who is known is counted on");
}

/// A quota that is taken out of the configuration and comes back within its period goes on.
#[test]
fn d07_reload_takes_it_out_and_back() {
    let mut book = book(10);
    book.add(report(day(0), &[(1, 5, false)]), now(0));
    assert!(!book.configure(&settings(&["daily"], 10), now(1)));
    assert!(!book.configure(&settings(&[], 10), now(1)));
    assert!(handed(&book).is_empty() && !book.is_needed());
    assert!(book.configure(&settings(&["daily"], 10), now(2)), "proxies are to be handed it");
    assert_eq!(handed(&book), [(1, 5)]);
    book.configure(&settings(&[], 10), now(2));
    book.configure(&settings(&[], 10), now(14));
    book.configure(&settings(&["daily"], 10), now(14));
    assert!(handed(&book).is_empty(), "its day is over");
}

#[test]
fn a_restart_goes_on_with_what_was_written() {
    let folder = Folder::new("restart");
    let mut book_before = book(1_000);
    book_before.add(report(day(0), &[(1, 5, false), (u64::MAX, 7, false)]), now(0));
    let mut store = folder.open("boot-a");
    store.write(&book_before.take_changed(), now(0)).unwrap();
    assert!(book_before.take_changed().is_empty());
    book_before.add(report(day(0), &[(1, 1, false)]), now(0));
    let changed = book_before.take_changed();
    assert_eq!(changed.iter().map(|written| written.rows.len()).sum::<usize>(), 1, "what has changed alone");
    store.write(&changed, now(1)).unwrap();
    drop(store);
    for (boot, hours, known) in [("boot-a", 2, true), ("boot-b", 2, true), ("boot-b", 13, false)] {
        let loaded = folder.open(boot).load(now(hours)).unwrap().0;
        let mut after = book(1_000);
        assert_ne!(known, after.load(loaded, None).is_empty());
        assert_eq!(handed(&after), if known { vec![(1, 6), (u64::MAX, 7)] } else { vec![] }, "{boot} {hours}");
        assert!(after.take_changed().is_empty(), "what was read is on the disk");
        assert!(!known || after.name("daily", 1) == "principal=p1");
    }
}

/// Rows of a day that is over count in no other, even where they are still in the file.
#[test]
fn d07_window_edge_on_disk() {
    let folder = Folder::new("edge");
    let mut store = folder.open("boot");
    let written = |span: QuotaSpan, is_new: bool, rows: Vec<(u64, u64, Option<Box<str>>)>| QuotaRows {
        name: "daily".to_owned(),
        counts: COUNTS.to_owned(),
        span,
        is_new,
        rows,
        words: Vec::new(),
    };
    store.write(&[written(day(0), false, vec![(1, 5, None), (2, 6, None)])], now(0)).unwrap();
    store.write(&[written(day(1), false, vec![(1, 1, None)])], now(13)).unwrap();
    let loaded = store.load(now(14)).unwrap().0;
    assert_eq!((loaded.len(), &loaded[0].rows), (1, &vec![(1, 1, None)]));
    store.write(&[written(day(1), true, vec![])], now(15)).unwrap();
    assert_eq!(store.load(now(16)).unwrap().0[0].rows.len(), 1);
    // The clock was set back, so that the next period ends at the same time.
    let again = QuotaSpan { again: 1, ..day(1) };
    store.write(&[written(again, true, vec![(3, 1, None)])], now(17)).unwrap();
    assert_eq!(store.load(now(18)).unwrap().0[0].rows, [(3, 1, None)]);
    store.write(&[written(again, true, vec![(4, 1, None)])], now(19)).unwrap();
    assert_eq!(store.load(now(20)).unwrap().0[0].rows.len(), 2, "it is written whole, part by part");
}

/// The numbers of operators' words are known after a restart, so that no word counts again.
#[test]
fn words_are_kept() {
    let (folder, mut before) = (Folder::new("words"), book(1_000));
    let said = |words: &[(u64, u64)]| QuotaReport { words: words.to_vec(), ..report(day(0), &[]) };
    let handed = |book: &Book| {
        let Some((_, mut files)) = book.opening().unwrap() else { return Vec::new() };
        let states: Vec<QuotaState> = unseal(files.remove(0)).unwrap();
        let mut words: Vec<_> = states.into_iter().flat_map(|state| state.words).collect();
        words.sort_unstable();
        words
    };
    assert_eq!(before.add(said(&[(1, 7), (2, 8)]), now(0)).unwrap().words, [(1, 7), (2, 8)]);
    assert!(before.add(said(&[(1, 6), (2, 8)]), now(0)).is_none(), "they are known, or earlier");
    folder.open("boot").write(&before.take_changed(), now(1)).unwrap();
    assert!(before.take_changed().is_empty());
    let mut after = book(1_000);
    let late = after.load(folder.open("boot").load(now(2)).unwrap().0, None);
    assert_eq!(late.iter().map(|report| report.words.len()).sum::<usize>(), 2, "proxies that serve are told");
    assert_eq!(handed(&after), [(1, 7), (2, 8)]);
    assert!(after.take_changed().is_empty(), "what was read is on the disk");
    // The next day has words of its own.
    after.add(report(day(1), &[(1, 1, false)]), now(24));
    folder.open("boot").write(&after.take_changed(), now(13)).unwrap();
    assert_eq!(handed(&after), []);
    assert_eq!(folder.open("boot").load(now(14)).unwrap().0[0].words, []);
}

/// A disk that could be read only after proxies had begun: both counts add up.
#[test]
fn what_is_read_late_is_added() {
    let mut book = book(1_000);
    book.add(report(day(0), &[(1, 3, false), (2, 4, true)]), now(0));
    let rows = vec![(1, 10, None), (2, 6, None), (3, 1, None)];
    let (name, counts) = ("daily".to_owned(), COUNTS.to_owned());
    let loaded = QuotaRows { name, counts, span: day(0), is_new: false, rows, words: Vec::new() };
    let late = book.load(vec![loaded], Some(now(0)));
    assert_eq!(handed(&book), [(1, 13), (2, 6), (3, 1)]);
    let told: Vec<_> = late.iter().flat_map(|report| &report.rows).map(|row| (row.key, row.units)).collect();
    assert_eq!(told, [(1, 10), (2, 2), (3, 1)], "proxies that serve are told what they lack");
}

/// A proxy of the guard before is in the period of the file, and one that began without the file in the clock's.
#[test]
fn a_proxy_in_another_period_wipes_no_sums() {
    let again = QuotaSpan { again: 1, ..day(0) };
    let mut book = book(1_000);
    let (name, counts) = ("daily".to_owned(), COUNTS.to_owned());
    let rows = QuotaRows { name, counts, span: again, is_new: false, rows: vec![(1, 10, None)], words: Vec::new() };
    drop(book.load(vec![rows], Some(now(2))));
    assert!(book.add(report(again, &[(1, 1, false)]), now(3)).is_some());
    assert!(book.add(report(day(0), &[(1, 1, false)]), now(4)).is_none());
    assert_eq!(handed(&book), [(1, 11)]);
}

/// The clock was set before the restart, so that proxies which began without the file are in another period than it has:
/// what they say counts, and so does what the file has.
#[test]
fn what_is_read_late_of_another_period_counts() {
    let again = QuotaSpan { again: 1, ..day(0) };
    let mut tomorrow = day(1);
    tomorrow.ends = now(30).monotonic;
    let over = QuotaSpan { again: 1, ends: now(1).monotonic, ..day(0) };
    for (written, first, is_counted) in [
        (day(0), day(0), true),
        // Those that this guard has started are in the period of the clock, those of the guard before in that of the file.
        (again, day(0), true),
        (again, again, true),
        (tomorrow, day(0), true),
        (tomorrow, tomorrow, true),
        (over, day(0), false),
    ] {
        for has_reported in [false, true] {
            let mut book = book(1_000);
            if has_reported {
                book.add(report(first, &[(2, 4, false)]), now(2));
            }
            let on_disk = || {
                let (name, counts) = ("daily".to_owned(), COUNTS.to_owned());
                let (rows, words) = (vec![(1, 10, None), (5, 7, None)], vec![(1, 3)]);
                vec![QuotaRows { name, counts, span: written, is_new: false, rows, words }]
            };
            let folder = Folder::new("late");
            folder.open("boot").write(&on_disk(), now(0)).unwrap();
            let late = book.load(on_disk(), Some(now(2)));
            let is_told = late.iter().any(|report| report.span.is(&first) && !report.rows.is_empty());
            assert_eq!(is_told, is_counted, "{written:?} {first:?} {has_reported}");
            assert!(
                book.add(report(first, &[(1, 1, false)]), now(3)).is_some(),
                "{written:?} {first:?} {has_reported}"
            );
            let mut expect = vec![(1, if is_counted { 11 } else { 1 })];
            expect.extend(has_reported.then_some((2, 4)));
            expect.extend(is_counted.then_some((5, 7)));
            assert_eq!(handed(&book), expect, "{written:?} {first:?} {has_reported}");
            // The next start finds the same.
            folder.open("boot").write(&book.take_changed(), now(3)).unwrap();
            let found = folder.open("boot").load(now(3)).unwrap().0.remove(0);
            let mut rows: Vec<_> = found.rows.iter().map(|(key, units, _)| (*key, *units)).collect();
            rows.sort_unstable();
            assert!(found.span.is(&first) && rows == expect, "{written:?} {first:?} {has_reported}: {found:?}");
            assert_eq!(found.words.len(), usize::from(is_counted), "{written:?} {first:?} {has_reported}");
        }
    }
}

#[test]
fn a_file_that_failed_is_written_whole() {
    let folder = Folder::new("whole");
    let mut book = book(1_000);
    book.add(report(day(0), &[(1, 5, false)]), now(0));
    drop(book.take_changed());
    book.add(report(day(0), &[(2, 5, false)]), now(0));
    book.rewrite();
    folder.open("boot").write(&book.take_changed(), now(0)).unwrap();
    assert_eq!(folder.open("boot").load(now(1)).unwrap().0[0].rows.len(), 2);
}

/// A stop has no next second: all is written, however much it is.
#[test]
fn the_last_rows_are_all_that_there_are() {
    let (mut book, many) = (book(200_000), 150_000_u64);
    let rows: Vec<_> = (0..many).map(|key| (key, 1, false)).collect();
    book.add(report(day(0), &rows), now(0));
    let (folder, last) = (Folder::new("last"), book.take_last());
    let mut store = folder.open("boot");
    last.iter().for_each(|part| store.write(part, now(0)).unwrap());
    assert_eq!(folder.open("boot").load(now(1)).unwrap().0[0].rows.len(), usize::try_from(many).unwrap());
    assert!(last.len() > 1 && book.take_last().is_empty());
}

/// What somebody else has written into a row costs that row alone, and is told.
#[test]
fn a_row_that_cannot_be_read_costs_itself_alone() {
    for (number, spoil, quotas, keys) in [
        (0, "SELECT 1", 1, 2),
        (1, "UPDATE used SET units = 'many' WHERE key = 1", 1, 1),
        (2, "UPDATE used SET name = x'ff' WHERE key = 1", 1, 1),
        (3, "INSERT INTO word VALUES (1, 1, 'first', 1)", 1, 2),
        (4, "INSERT INTO quota VALUES (9, 'weekly', 'x', 'soon', 1, 1, 1)", 1, 2),
        (5, "UPDATE machine SET seen = 'never'", 1, 2),
    ] {
        let folder = Folder::new(&format!("row-{number}"));
        let (name, counts) = ("daily".to_owned(), COUNTS.to_owned());
        let rows = vec![(1, 5, None), (2, 6, None)];
        let written = QuotaRows { name, counts, span: day(0), is_new: false, rows, words: Vec::new() };
        folder.open("boot").write(&[written], now(0)).unwrap();
        let other = rusqlite::Connection::open(folder.0.join(super::store::FILE)).unwrap();
        other.execute_batch(spoil).unwrap();
        let (loaded, told) = folder.open("boot").load(now(1)).unwrap();
        assert_eq!((loaded.len(), loaded[0].rows.len()), (quotas, keys), "{spoil}");
        let says = told.as_ref().is_some_and(|told| told.contains("1 row of quotas.db is left out"));
        assert_eq!(says, !matches!(number, 0 | 5), "{spoil}: {told:?}");
    }
}

#[test]
fn a_damaged_file_is_set_aside() {
    let folder = Folder::new("damaged");
    let path = folder.0.join(super::store::FILE);
    for spoil in
        [&b"no database, whatever it may have been"[..], b"SQLite format 3\0 and then nothing of the kind at all"]
    {
        fs::write(&path, spoil).unwrap();
        let (_, told) = QuotaStore::open(&folder.0, "boot").unwrap();
        assert!(told.is_some_and(|told| told.contains("set aside")));
        for beside in ["-wal", "-shm"] {
            fs::remove_file(folder.0.join(format!("{}{beside}", super::store::FILE))).unwrap_or_default();
        }
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(QuotaStore::open(&folder.0, "boot").unwrap().1.is_some());
}

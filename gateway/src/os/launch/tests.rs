//! Every command and notice comes out as it went in, and nothing else means anything.

use std::fmt::Debug;

use proptest::prelude::*;

use super::{fields::VERSION, *};

mod reading;

#[track_caller]
fn check<T: FixedDatagram + PartialEq + Debug>(message: &T) {
    assert_eq!(T::decode(&message.encode()).as_ref(), Some(message));
}

#[test]
fn each_comes_out_as_it_went_in() {
    let program = ProgramId { device: u64::MAX, inode: 7 };
    for address in ["192.0.2.1:443", "[2001:db8::1]:8443", "[::ffff:192.0.2.1]:1", "[fe80::1%4294967295]:0"] {
        let address = address.parse().unwrap();
        check(&LauncherCommand::Bind { address, sockets: 1 });
        check(&LauncherCommand::Bind { address, sockets: MAX_SOCKETS });
        check(&LauncherCommand::Unbind { address });
        check(&Notice::Bound { address, left: u16::MAX, error: -1 });
    }
    for role in [ProcessRole::Compiler, ProcessRole::Observer, ProcessRole::Proxy] {
        for run_as in [None, Some(RunAs { uid: 1, gid: 0 }), Some(RunAs { uid: u32::MAX, gid: 1 })] {
            check(&LauncherCommand::Start { role, generation: u64::MAX, run_as, program });
        }
        check(&Notice::Living { role, generation: 3, pid: 1, program });
    }
    for how in [End::Drain, End::Kill] {
        check(&LauncherCommand::End { pid: i32::MAX.unsigned_abs(), how });
    }
    let upgrade = LauncherCommand::Upgrade { program };
    for command in [
        LauncherCommand::Find,
        LauncherCommand::Keep,
        LauncherCommand::Ready,
        LauncherCommand::Alive,
        upgrade,
        LauncherCommand::Stopping,
    ] {
        check(&command);
    }
    check(&Notice::Found { program, unfit: None });
    for fault in [
        ProgramFault::Kind,
        ProgramFault::Open(i32::MIN),
        ProgramFault::Open(2),
        ProgramFault::Owner,
        ProgramFault::Link,
        ProgramFault::Writable,
    ] {
        for depth in [0, u16::MAX] {
            check(&Notice::Found { program: ProgramId::default(), unfit: Some(UnfitProgram { fault, depth }) });
        }
    }
    check(&Notice::Kept);
    check(&Notice::Begin { pid: 1, program, deaths: u32::MAX, status: i32::MIN, reverted: true });
    check(&Notice::Started { generation: 1, pid: 0, error: 11 });
    check(&Notice::Exited { pid: 9, status: 256 });
}

#[test]
fn what_is_out_of_bounds_means_nothing() {
    let (address, program) = ("192.0.2.1:443".parse().unwrap(), ProgramId::default());
    let refused = [
        LauncherCommand::Bind { address, sockets: 0 },
        LauncherCommand::Bind { address, sockets: MAX_SOCKETS + 1 },
        LauncherCommand::Start { role: ProcessRole::Guard, generation: 1, run_as: None, program },
        // Nobody but the guard is root.
        LauncherCommand::Start {
            role: ProcessRole::Proxy,
            generation: 1,
            run_as: Some(RunAs { uid: 0, gid: 7 }),
            program,
        },
        // Every process, and every process of a group.
        LauncherCommand::End { pid: 0, how: End::Kill },
        LauncherCommand::End { pid: u32::MAX, how: End::Kill },
    ];
    for command in refused {
        assert_eq!(LauncherCommand::decode(&command.encode()), None, "{command:?}");
    }
    let whole = LauncherCommand::Ready.encode();
    for (bytes, name) in [
        (&whole[..LENGTH - 1], "too short"),
        (&[whole.as_slice(), &[0]].concat(), "too long"),
        (&[], "empty"),
        (&[&[VERSION + 1], &whole[1..]].concat(), "another version"),
        (&[&whole[..LENGTH - 1], &[1]].concat(), "something behind it"),
    ] {
        assert_eq!(LauncherCommand::decode(bytes), None, "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_mean_one_thing(bytes in prop::collection::vec(any::<u8>(), LENGTH), kind in 0_u8..12, used in 2..LENGTH) {
        let mut bytes = bytes;
        (bytes[0], bytes[1]) = (VERSION, kind);
        bytes[used..].fill(0);
        prop_assert_eq!(reading::fault(&bytes), None);
    }
}

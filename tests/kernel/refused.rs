//! What becomes of a program that the kernel refuses: a part is left out, or the refusal names the verifier's reason.

use gateway::guard::kernel::{Kernel, KernelError};
use gateway_common::trace::Trace;

use crate::{
    live::{BAD, Cable, GOOD, ban, key, settings},
    program::OBJECT,
};

/// Helpers of the kernel, as `linux/bpf.h` numbers them.
const CPU_NUMBER: u8 = 8;
const SK_LOOKUP: u8 = 84;
const GEN_SYNCOOKIE: u8 = 110;
const JIFFIES: u8 = 118;
const BUFF_LEN: u8 = 188;

/// The object, calling helpers that no kernel has in the place of these.
fn without(helpers: &[u8]) -> Vec<u8> {
    let mut object = OBJECT.to_vec();
    for helper in helpers {
        let calls: Vec<usize> = (0..object.len() / 8)
            .map(|word| word * 8)
            .filter(|&at| object[at..at + 8] == [0x85, 0, 0, 0, *helper, 0, 0, 0])
            .collect();
        assert!(!calls.is_empty(), "helper {helper} is not called");
        for at in calls {
            object[at + 6] = 0xff;
        }
    }
    object
}

#[test]
fn what_the_kernel_refuses_is_left_out_and_told_with_its_reason() {
    for (helpers, expect) in [
        (&[][..], &[][..]),
        (&[CPU_NUMBER], &["writes lines"]),
        (&[GEN_SYNCOOKIE], &["SYN cookies"]),
        (&[SK_LOOKUP], &["fast lane"]),
        (&[BUFF_LEN], &["in pieces"]),
        (&[GEN_SYNCOOKIE, BUFF_LEN], &["SYN cookies", "in pieces"]),
        (&[GEN_SYNCOOKIE, SK_LOOKUP, BUFF_LEN], &["SYN cookies", "fast lane", "in pieces"]),
    ] {
        Cable::with(move |cable| {
            let mut kernel = Kernel::load_object(&without(helpers), &settings(), &[443]).unwrap();
            let told = kernel.left_out();
            assert_eq!(told.len(), expect.len(), "{told:?}");
            for (note, what) in told.iter().zip(expect) {
                assert!(note.contains(what) && note.contains("invalid func"), "{note}");
            }
            assert_eq!(kernel.is_traceable(), !helpers.contains(&CPU_NUMBER));
            kernel.trace(&[Trace::new(1, None, false)]).unwrap();
            kernel.ban(key(BAD), ban(1)).unwrap();
            assert!(!cable.answers(BAD) && cable.answers(GOOD), "the rest does its work");
        });
    }
}

#[test]
fn a_program_that_is_refused_whole_names_the_reason() {
    Cable::with(|cable| {
        for helpers in [&[JIFFIES][..], &[JIFFIES, GEN_SYNCOOKIE, BUFF_LEN]] {
            let refusal = Kernel::load_object(&without(helpers), &settings(), &[443]).unwrap_err();
            assert!(matches!(refusal, KernelError::Verifier(_)) && refusal.is_refusal(), "{refusal:?}");
            assert!(refusal.to_string().contains("invalid func"), "{refusal}");
        }
        assert!(cable.answers(BAD), "nothing is attached");
    });
}

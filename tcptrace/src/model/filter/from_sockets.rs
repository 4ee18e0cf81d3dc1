//! A [`SocketFilter`] as an expression.

use super::{
    expr::{Expr, Pattern, Test},
    fields::{End, Number, Text, Which},
};
use crate::model::socket_filter::SocketFilter;

impl From<&SocketFilter> for Expr {
    fn from(filter: &SocketFilter) -> Self {
        let SocketFilter { states, family, ports, addresses, netns: _, pids, cgroups } = filter;
        let mut tests = Vec::new();
        let mut add = |is_given: bool, test: Test| tests.extend(is_given.then_some(Self::Test(test)));
        add(!states.is_empty(), Test::State(Which::Either, *states));
        add(*family != 0, Test::Family(*family));
        for (end, ranges) in [(End::Either, &ports.any), (End::Local, &ports.local), (End::Remote, &ports.remote)] {
            add(!ranges.is_empty(), Test::Port(end, ranges.clone()));
        }
        for (end, prefixes) in
            [(End::Either, &addresses.any), (End::Local, &addresses.local), (End::Remote, &addresses.remote)]
        {
            add(!prefixes.is_empty(), Test::Address(end, prefixes.clone()));
        }
        add(
            !pids.is_empty(),
            Test::Number(Number::Pid, pids.iter().map(|pid| (u64::from(*pid), u64::from(*pid))).collect()),
        );
        add(!cgroups.is_empty(), Test::Text(Text::Cgroup, Pattern::Below(cgroups.clone())));
        Self::all(tests)
    }
}

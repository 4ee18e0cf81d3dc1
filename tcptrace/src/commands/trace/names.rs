//! The threads that read processes from `/proc` and look up names of hosts, so that reading events never waits for them.

use std::{
    borrow::Cow,
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    model::{
        hosts::Hosts,
        names::Names,
        processes::{ProcessAnswer, ProcessQuestion, ProcessSource},
        secrets,
    },
    pipeline::{
        input::Input,
        recording::encoder::{Name, NameLog},
    },
    sys::{
        cgroup, hosts,
        lookups::Lookups,
        places::{self, Places},
        processes,
        users::{UserFile, Users},
    },
};

/// Name of the thread that reads processes.
pub(super) const THREAD: &str = "names";
/// Longest time for one process: its memory may be locked while its arguments are read.
const LONGEST: Duration = Duration::from_secs(5);
/// Shortest time between two looks at the file of users.
const USERS_EVERY: Duration = Duration::from_secs(5);

/// Name of the thread that looks up names of hosts, and the longest time for one.
pub(super) const RESOLVER: &str = "resolver";
const LONGEST_NAME: Duration = Duration::from_secs(60);

/// What was found.
pub(crate) enum Answer {
    /// A process, and the users of this host if they have changed.
    Process(ProcessQuestion, ProcessAnswer, Option<Users>),
    /// The name of an address.
    Host(IpAddr, Option<String>),
}

/// Which names are read.
#[derive(Clone, Copy, Debug)]
pub struct NameSettings {
    /// True if arguments of processes are read.
    pub with_args: bool,
    /// True if names of hosts are looked up.
    pub resolve: bool,
}

/// Handle to the threads.
pub(super) struct NameReader {
    processes: Lookups<ProcessQuestion, Answer>,
    hosts: Option<Lookups<IpAddr, Answer>>,
    settings: NameSettings,
    /// What a recording needs to know of questions.
    log: Option<NameLog>,
}

impl NameReader {
    /// Starts the threads, which `names` asks from now on.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(names: &mut Names, settings: NameSettings, log: Option<NameLog>) -> io::Result<Self> {
        let hosts = if settings.resolve {
            let lookups = Lookups::start(RESOLVER, LONGEST_NAME, || {}, |host| Answer::Host(host, hosts::name(host)))?;
            names.hosts = Hosts::new(Some(Box::new(lookups.asker())));
            Some(lookups)
        } else {
            None
        };
        Ok(Self { processes: Self::processes(names, settings.with_args, log.clone())?, hosts, settings, log })
    }

    fn processes(
        names: &mut Names,
        with_args: bool,
        log: Option<NameLog>,
    ) -> io::Result<Lookups<ProcessQuestion, Answer>> {
        let mut users = UserFile::default();
        names.users = users.changed().unwrap_or_default();
        let mut looked = Instant::now();
        let mut path_of = cgroup::lookup();
        // Found by that thread: this one may not look at other processes (`sys/sandbox`).
        let mut places = None;
        let read = move |question: ProcessQuestion| {
            let is_due = looked.elapsed() >= USERS_EVERY;
            if is_due {
                looked = Instant::now();
            }
            let users = if is_due { users.changed() } else { None };
            let places = places.get_or_insert_with(|| Places::new(&places::host_root(None)));
            let read = processes::read(question.id, with_args, |pid| places.of_process(pid));
            let (names, place) = read.map_or((None, None), |(names, place)| (Some(names), place));
            let place = place.or_else(|| Some(places.of_cgroup(&path_of(question.cgroup)?, None)));
            Answer::Process(question, ProcessAnswer { names, place }, users)
        };
        let lookups = Lookups::start(THREAD, LONGEST, secrets::prepare, read)?;
        let mut ask = lookups.asker();
        names.processes.set_source(ProcessSource::Later(Box::new(move |question| {
            let is_asked = ask(question);
            if let Some(log) = log.as_ref().filter(|_| !is_asked) {
                log.borrow_mut().push(Name::Refused(question.id.0, question.id.1));
            }
            is_asked
        })));
        Ok(lookups)
    }

    /// Waits for the next answer; forever if nothing was asked. Cancel-safe.
    pub(super) async fn next(&mut self) -> Answer {
        let Some(hosts) = &mut self.hosts else { return self.processes.next().await };
        tokio::select! {
            biased;
            answer = self.processes.next() => answer,
            answer = hosts.next() => answer,
        }
    }

    /// This answer, and those that are there already, as inputs.
    pub(super) fn take(&mut self, answer: Answer) -> Vec<Input<'static>> {
        let mut inputs = Vec::new();
        let mut next = Some(answer);
        while let Some(answer) = next {
            match answer {
                Answer::Process(question, found, users) => {
                    inputs.push(Input::Process(question, Cow::Owned(found)));
                    inputs.extend(users.map(|users| Input::Users(users.into_iter().collect())));
                }
                Answer::Host(host, name) => inputs.push(Input::Host(host, name)),
            }
            next = self.processes.try_next();
        }
        inputs
    }

    /// Whether the thread that reads processes hangs or panicked. Names of hosts may take as long as they like.
    pub(super) fn is_broken(&self) -> bool {
        self.processes.is_broken()
    }

    /// Replaces the thread that reads processes.
    ///
    /// # Errors
    /// See [`NameReader::start`].
    pub(super) fn replace(&mut self, names: &mut Names) -> io::Result<()> {
        self.processes.forget();
        self.processes = Self::processes(names, self.settings.with_args, self.log.clone())?;
        Ok(())
    }
}

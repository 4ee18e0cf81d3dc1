//! The names of fields and their values.

use std::{net::IpAddr, sync::LazyLock};

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// Not known.
    Null,
    /// Text.
    Text(&'a str),
    /// A name of tcptrace's own, without any character that a format must escape.
    Word(&'static str),
    /// A number.
    Number(u64),
    /// A kernel address, written in hexadecimal.
    Pointer(u64),
    /// Wall-clock time in ns since the epoch, written as RFC 3339.
    Time(i64),
    /// An IP address.
    Address(IpAddr),
    /// A boolean.
    Flag(bool),
    /// A list of texts, which CSV writes as JSON.
    List(&'a [String]),
    /// JSON, which CSV writes as text.
    Json(&'a [u8]),
    /// Null for the field, and for those after it.
    Nulls(&'static NullFields),
}

/// Takes the fields of a record, one after another.
pub(crate) trait Emit {
    /// Takes a field and its value.
    fn emit(&mut self, field: Field, value: FieldValue<'_>);
}

impl<F: FnMut(Field, FieldValue<'_>)> Emit for F {
    fn emit(&mut self, field: Field, value: FieldValue<'_>) {
        self(field, value);
    }
}

macro_rules! fields {
    ($(#[$about:meta])* $Field:ident { $($variant:ident = $name:literal: $doc:literal),* $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $Field {
            $(#[doc = $doc] $variant),*
        }

        impl $Field {
            /// All fields.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in all outputs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }

            /// The name as it stands before a value in JSON, with a comma for the member before.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!(",\"", $name, "\":")),*
                }
            }
        }
    };
}
pub(crate) use fields;

fields! {
    /// A field of an event, in the order of CSV's columns.
    Field {
        Event = "event": "Kind of the event.",
        Time = "time": "Wall-clock time.",
        MonoNs = "mono_ns": "CLOCK_MONOTONIC in ns.",
        Cpu = "cpu": "CPU on which it happened.",
        Sk = "sk": "Identifies the socket while it lives, in this run.",
        Cookie = "cookie": "Socket cookie.",
        Netns = "netns": "Inode number of the network namespace.",
        NetnsName = "netns_name": "Name of the network namespace.",
        Family = "family": "Family of the socket.",
        LocalAddress = "local_address": "Local address.",
        LocalPort = "local_port": "Local port.",
        LocalService = "local_service": "Name of the local port.",
        RemoteAddress = "remote_address": "Remote address.",
        RemotePort = "remote_port": "Remote port.",
        RemoteService = "remote_service": "Name of the remote port.",
        RemoteName = "remote_name": "Name of the remote host.",
        State = "state": "State at the event.",
        OldState = "old_state": "State that was left.",
        NewState = "new_state": "State that was entered.",
        NewStateSource = "new_state_source": "How the new state is known.",
        TimeInOldStateNs = "time_in_old_state_ns": "Time in the state that was left, in ns.",
        TimeSource = "time_source": "How that time is known.",
        AfterGap = "after_gap": "Whether earlier events of this socket were lost.",
        HandshakeRttNs = "handshake_rtt_ns": "Round-trip time of the handshake, measured by the kernel, in ns.",
        SrttUs = "srtt_us": "Smoothed round-trip time, in µs.",
        TotalRetrans = "total_retrans": "Retransmissions so far.",
        Timeouts = "timeouts": "Timeouts in a row.",
        BytesAcked = "bytes_acked": "Bytes that the peer acknowledged.",
        BytesReceived = "bytes_received": "Bytes received.",
        ReceiveQueue = "receive_queue": "Bytes received but not read.",
        SendQueue = "send_queue": "Bytes not acknowledged by the peer.",
        LastSentNs = "last_sent_ns": "Time since data was sent, in ns.",
        LastReceivedNs = "last_received_ns": "Time since data was received, in ns.",
        LastAckNs = "last_ack_ns": "Time since an ACK was received, in ns.",
        CloseReason = "ending": "Why the connection ended.",
        ProcessExit = "process_exit": "How the process exited, if its exit closed the socket.",
        ExpiresInNs = "expires_in_ns": "Time until the kernel's timer ends the mini-socket, in ns.",
        Errno = "errno": "Name of the error.",
        Reason = "reason": "The kernel's reason for sending a RST.",
        ReasonCode = "reason_code": "Number of that reason in the kernel.",
        Pid = "pid": "PID of the owner.",
        Command = "command": "Command name of the owner.",
        Uid = "uid": "UID of the owner.",
        CgroupId = "cgroup_id": "Id of the owner's cgroup.",
        Cgroup = "cgroup": "Path of the owner's cgroup.",
        OwnerSource = "owner_source": "How the owner is known.",
        OwnerCandidates = "owner_candidates": "PIDs of the possible owners, if there are several.",
        User = "user": "Name of the owner's UID.",
        NsPid = "ns_pid": "PID of the owner in its own PID namespace.",
        Executable = "executable": "Executable of the owner.",
        Args = "args": "Arguments of the owner.",
        ParentPid = "parent_pid": "PID of the owner's parent.",
        ParentCommand = "parent_command": "Command name of the owner's parent.",
        Unit = "unit": "systemd unit of the owner.",
        ContainerId = "container_id": "Id of the owner's container.",
        ContainerName = "container_name": "Name of that container.",
        ContainerImage = "container_image": "Image of that container.",
        ContainerRuntime = "container_runtime": "Runtime of that container.",
        ContainerSource = "container_source": "How the container's name or image is known.",
        PodUid = "pod_uid": "UID of the owner's pod.",
        PodName = "pod_name": "Name of that pod.",
        PodNamespace = "pod_namespace": "Namespace of that pod.",
        PodContainer = "pod_container": "Name of the container in that pod.",
        PodSource = "pod_source": "How the pod's name is known.",
        PeerPid = "peer_pid": "PID of the process at the other end.",
        PeerCommand = "peer_command": "Command name of that process.",
        PeerUid = "peer_uid": "UID of that process.",
        PeerExecutable = "peer_executable": "Executable of that process.",
        PeerUnit = "peer_unit": "systemd unit of that process.",
        PeerContainerId = "peer_container_id": "Id of that process's container.",
        PeerContainerName = "peer_container_name": "Name of that container.",
        PeerPodUid = "peer_pod_uid": "UID of that process's pod.",
        PeerPodName = "peer_pod_name": "Name of that pod.",
        PeerPodNamespace = "peer_pod_namespace": "Namespace of that pod.",
        PeerOwnerSource = "peer_owner_source": "How it is known that the socket at the other end is that process's.",
        PeerSource = "peer_source": "How the socket at the other end is known.",
    }
}

/// The number, or null.
pub(crate) fn number(value: Option<impl Into<u64>>) -> FieldValue<'static> {
    value.map_or(FieldValue::Null, |value| FieldValue::Number(value.into()))
}

/// Fields in a row that are often null together. Most of a line would be these, so JSON has them ready.
#[derive(Debug)]
pub struct NullFields {
    /// The fields.
    pub fields: &'static [Field],
    json: LazyLock<Vec<u8>>,
}

impl NullFields {
    /// The members of a JSON object, each with a comma before it.
    pub(crate) fn json(&self) -> &[u8] {
        &self.json
    }
}

impl PartialEq for NullFields {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

impl Eq for NullFields {}

macro_rules! null_fields {
    ($($name:ident),* $(,)?) => {{
        const FIELDS: &[Field] = &[$(Field::$name),*];
        NullFields {
            fields: FIELDS,
            json: LazyLock::new(|| FIELDS.iter().flat_map(|field| [field.key(), "null"]).collect::<String>().into_bytes()),
        }
    }};
}

/// The fields about a process that was not read.
pub(crate) static NOT_READ: NullFields = null_fields!(NsPid, Executable, Args, ParentPid, ParentCommand);
/// The fields about a process in no container.
pub(crate) static NO_CONTAINER: NullFields = null_fields!(
    ContainerId,
    ContainerName,
    ContainerImage,
    ContainerRuntime,
    ContainerSource,
    PodUid,
    PodName,
    PodNamespace,
    PodContainer,
    PodSource,
);
/// The fields about the other end, if it is not known, but the last one.
pub(crate) static NO_PEER: NullFields = null_fields!(
    PeerPid,
    PeerCommand,
    PeerUid,
    PeerExecutable,
    PeerUnit,
    PeerContainerId,
    PeerContainerName,
    PeerPodUid,
    PeerPodName,
    PeerPodNamespace,
    PeerOwnerSource,
);

//! Names of the errors that the TCP stack leaves in `sk_err` or returns when it sends a segment.

use crate::model::number::digits;

/// Name of an errno; `None` for one that TCP does not use.
#[must_use]
pub fn name(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::EPERM => "EPERM",
        libc::EINTR => "EINTR",
        libc::EIO => "EIO",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EBUSY => "EBUSY",
        libc::EINVAL => "EINVAL",
        libc::EPIPE => "EPIPE",
        libc::EPROTO => "EPROTO",
        libc::EBADMSG => "EBADMSG",
        libc::EMSGSIZE => "EMSGSIZE",
        libc::ENOPROTOOPT => "ENOPROTOOPT",
        libc::EPROTONOSUPPORT => "EPROTONOSUPPORT",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EADDRINUSE => "EADDRINUSE",
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        libc::ENETDOWN => "ENETDOWN",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::ENETRESET => "ENETRESET",
        libc::ECONNABORTED => "ECONNABORTED",
        libc::ECONNRESET => "ECONNRESET",
        libc::ENOBUFS => "ENOBUFS",
        libc::ENOTCONN => "ENOTCONN",
        libc::ETIMEDOUT => "ETIMEDOUT",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::EHOSTDOWN => "EHOSTDOWN",
        libc::EHOSTUNREACH => "EHOSTUNREACH",
        libc::EALREADY => "EALREADY",
        libc::EINPROGRESS => "EINPROGRESS",
        libc::EKEYEXPIRED => "EKEYEXPIRED",
        _ => return None,
    })
}

macro_rules! all {
    ($($name:ident)*) => {
        /// Every error of Linux with its number (`include/uapi/asm-generic/errno.h`), in the order of the numbers.
        const ALL: &[(&str, i32)] = &[$((stringify!($name), libc::$name)),*];
    };
}

all! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST
    EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM
    ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG
    EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG
    EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC
    ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE
    ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL
    ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT
    ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT
    ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL
    EHWPOISON
}

/// Other names of the same errors.
const ALIASES: [(&str, i32); 3] =
    [("EWOULDBLOCK", libc::EAGAIN), ("EDEADLOCK", libc::EDEADLK), ("ENOTSUP", libc::EOPNOTSUPP)];

/// The name and the number of the error with this name or number, whatever its case.
#[must_use]
pub fn named(text: &str) -> Option<(&'static str, i32)> {
    let number = digits::<i32>(text).or_else(|| {
        let mut names = ALL.iter().chain(&ALIASES);
        names.find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number)
    })?;
    ALL.iter().copied().find(|(_, known)| *known == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_names_of_errno_h() {
        for (text, want) in [
            ("ETIMEDOUT", Some(("ETIMEDOUT", libc::ETIMEDOUT))),
            ("110", Some(("ETIMEDOUT", 110))),
            ("econnreset", Some(("ECONNRESET", libc::ECONNRESET))),
            ("EWOULDBLOCK", Some(("EAGAIN", libc::EAGAIN))),
            ("1", Some(("EPERM", 1))),
            ("0", None),
            ("-110", None),
            ("41", None),
            ("ETIMEOUT", None),
            ("99999999999", None),
        ] {
            assert_eq!(named(text), want, "{text}");
        }
        for (known, number) in ALL {
            assert_eq!(named(&number.to_string()), Some((*known, *number)), "no number twice");
            assert!(name(*number).is_none_or(|name| name == *known), "{known}");
        }
    }

    #[test]
    fn tcp_s_errors_are_a_part_of_all() {
        let of_tcp = (1..200).filter(|number| name(*number).is_some()).count();
        assert!(of_tcp > 30 && ALL.len() > 130, "{of_tcp} of {}", ALL.len());
    }
}

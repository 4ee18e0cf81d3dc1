//! Hides secrets in command lines. Every user of a host can read `/proc/PID/cmdline`, but an event travels further: to
//! files, logs and other hosts. `SECURITY.md` has the list for users.
//!
//! Masking errs on the side of hiding too much. It cannot know every program: `--no-args` reads no arguments at all.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// Names whose value is a secret, by their ends: `--db-password`, `API_KEY`, `client.secret`. Not `--password-file`, which
/// names a file. Short words count only on their own: `db-pass`, but not `compass`.
const NAME: &str = concat!(
    r"(?:[\w.-]*(?:passwd|password|passphrase|passcode|secrets?|tokens?|credentials?|authorization",
    r"|(?:api|access|account|private|encryption|signing)[-_.]?key)",
    r"|(?:\b|[\w.-]*[-_.])(?:pass|passin|passout|pwd|auth|bearer|cookie|signature|sig))",
);

/// Programs with a short option whose value is a secret: `-p x` and `-px`, or only what follows the separator in the value
/// (`curl -u user:x`).
const PROGRAMS: &[(&[&str], &[&str], Option<char>)] = &[
    (&["mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlshow", "mysqlsh", "mysqlcheck"], &["-p"], None),
    (&["mariadb", "mariadb-dump", "mariadb-admin", "mariadb-backup", "mariadb-check"], &["-p"], None),
    (&["sshpass", "mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport"], &["-p"], None),
    (&["redis-cli", "valkey-cli"], &["-a"], None),
    (&["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldappasswd", "ldapwhoami"], &["-w"], None),
    (&["sqlcmd", "bcp", "ipmitool"], &["-P"], None),
    (&["snmpget", "snmpwalk", "snmpbulkwalk", "snmpset", "snmptrap"], &["-c", "-A", "-X"], None),
    (&["login"], &["-p"], None), // docker login, podman login
    (&["curl"], &["-u", "-U", "--user", "--proxy-user"], Some(':')),
    (&["http", "https", "xh"], &["-a", "--auth"], Some(':')),
    (&["smbclient", "rpcclient"], &["-U", "--user"], Some('%')),
];

struct Patterns {
    /// An argument that is an option or a variable with its value: `--password=x`, `TOKEN=x`.
    whole: Regex,
    /// An option whose value is the next argument: `--password x`.
    option: Regex,
    /// The same inside an argument, as in `sh -c '…'`, connection strings, queries of URLs and JSON.
    inside: Regex,
    /// Headers: `Authorization: Bearer x`, `X-Api-Key:x`.
    header: Regex,
    /// Credentials in a URL: `scheme://user:x@host`.
    url: Regex,
    /// Secrets with a form of their own.
    shapes: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    // `None` if one of them were wrong, which a test rules out; nothing is shown then.
    Some(Patterns {
        whole: Regex::new(&format!(r"(?is)^(-{{0,2}}{NAME}=)(.+)$")).ok()?,
        option: Regex::new(&format!(r"(?i)^--?{NAME}$")).ok()?,
        inside: Regex::new(&format!(
            r#"(?i)({NAME}["']?(?:\s*=\s*|\s*:\s+|["']\s*:\s*))("[^"]*"|'[^']*'|[^\s;&,}}"']+)"#
        ))
        .ok()?,
        header: Regex::new(
            r"(?is)((?:^|[\s'\x22])(?:(?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]*(?:key|token|secret|auth))\s*:\s*)([^'\x22]+)",
        )
        .ok()?,
        url: Regex::new(r#"(?i)([a-z][a-z0-9+.-]*://[^\s:/@?#]*):([^\s"']*)@"#).ok()?,
        shapes: Regex::new(concat!(
            r"(?s)\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[opsur]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}",
            r"|\bxox[abeprs]-[\w-]{10,}|\b[rs]k_live_\w{10,}|\bsk-[\w-]{20,}|\bAIza[\w-]{30,}|\bhf_\w{20,}",
            r"|\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*|-----BEGIN [A-Z ]*PRIVATE KEY-----.*",
            r"|(?i:\b(?:bearer|basic)\s+[\w+/=.~-]{8,})",
        ))
        .ok()?,
    })
});

/// Masks secrets in the arguments of a process. The first one is the program.
pub fn mask(args: &mut [String]) {
    let Some(patterns) = &*PATTERNS else { return args.iter_mut().for_each(|arg| MASK.clone_into(arg)) };
    let mut words: Vec<&mut String> = args.iter_mut().collect();
    options(&mut words, patterns);
    for arg in args {
        if arg.contains(char::is_whitespace) {
            commands(arg, patterns);
        }
        text(arg, patterns);
    }
}

/// Masks what follows an option, by the programs among the words.
fn options(words: &mut [&mut String], patterns: &Patterns) {
    let mut short: Vec<(&str, Option<char>)> = Vec::new();
    let mut next: Option<Option<char>> = None;
    for word in words {
        if let Some(separator) = next.take()
            && !word.starts_with("--")
        {
            hide(word, 0, separator);
            continue;
        }
        let base = word.rsplit('/').next().unwrap_or_default().to_owned();
        if let Some((_, options, separator)) = PROGRAMS.iter().find(|(names, ..)| names.contains(&base.as_str())) {
            short.extend(options.iter().map(|option| (*option, *separator)));
            continue;
        }
        let own = short.iter().find_map(|(option, separator)| {
            let value = word.strip_prefix(option)?;
            let is_it = value.is_empty() || !option.starts_with("--") || value.starts_with('=');
            is_it.then_some((option.len(), *separator))
        });
        match own {
            Some((length, separator)) if length == word.len() => next = Some(separator),
            Some((length, separator)) => hide(word, length, separator),
            None if patterns.option.is_match(word) => next = Some(None),
            None => {}
        }
    }
}

/// Hides the value that begins at this byte; with a separator only what follows it.
fn hide(word: &mut String, from: usize, separator: Option<char>) {
    let start = match separator {
        None => from,
        Some(separator) => match word.get(from..).and_then(|value| value.find(separator)) {
            Some(at) => from + at + separator.len_utf8(),
            None => return, // a name alone
        },
    };
    word.truncate(start);
    word.push_str(MASK);
}

/// Masks options in an argument that holds a command line.
fn commands(arg: &mut String, patterns: &Patterns) {
    let pieces: Vec<_> = arg.split_inclusive(char::is_whitespace).collect();
    let mut words: Vec<String> = pieces.iter().map(|piece| piece.trim_end().to_owned()).collect();
    options(&mut words.iter_mut().collect::<Vec<_>>(), patterns);
    let ends = pieces.iter().map(|piece| &piece[piece.trim_end().len()..]);
    *arg = words.iter().map(String::as_str).zip(ends).flat_map(|(word, end)| [word, end]).collect();
}

/// Masks secrets inside a text.
fn text(arg: &mut String, patterns: &Patterns) {
    let value = format!("${{1}}{MASK}");
    for pattern in [&patterns.whole, &patterns.header, &patterns.inside] {
        *arg = pattern.replace_all(arg, &value).into_owned();
    }
    let credentials = |found: &Captures<'_>| {
        let rest = found[2].trim_start_matches(|c: char| c.is_ascii_digit());
        // A port, and an `@` further on.
        let is_port = rest.len() < found[2].len() && rest.starts_with(['/', '?', '#']);
        if is_port { found[0].to_owned() } else { format!("{}:{MASK}@", &found[1]) }
    };
    *arg = patterns.url.replace_all(arg, credentials).into_owned();
    *arg = patterns.shapes.replace_all(arg, MASK).into_owned();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(args: &[&str]) -> String {
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        mask(&mut args);
        args.join("|")
    }

    #[test]
    fn secrets_are_hidden() {
        for (args, want) in [
            (&["app", "--password=x y"][..], "app|--password=***"),
            (&["app", "--db-password", "hunter2", "--verbose"], "app|--db-password|***|--verbose"),
            (&["app", "-password", "hunter2"], "app|-password|***"),
            (&["java", "-Dspring.datasource.password=x", "-jar"], "java|-Dspring.datasource.password=***|-jar"),
            (&["env", "API_TOKEN=abc", "DEBUG=1", "server"], "env|API_TOKEN=***|DEBUG=1|server"),
            (&["app", "AWS_SECRET_ACCESS_KEY=abc/def+1"], "app|AWS_SECRET_ACCESS_KEY=***"),
            (
                &["app", "--api-key", "k", "--apiKey=k", "--client_secret=s"],
                "app|--api-key|***|--apiKey=***|--client_secret=***",
            ),
            (&["mysql", "-u", "root", "-psecret", "db"], "mysql|-u|root|-p***|db"),
            (&["/usr/bin/mysqldump", "-p", "secret", "db"], "/usr/bin/mysqldump|-p|***|db"),
            (&["sshpass", "-p", "x", "ssh", "host"], "sshpass|-p|***|ssh|host"),
            (&["redis-cli", "-a", "x", "ping"], "redis-cli|-a|***|ping"),
            (&["ldapsearch", "-w", "x", "-b", "dc=a"], "ldapsearch|-w|***|-b|dc=a"),
            (&["docker", "login", "-u", "me", "-p", "x"], "docker|login|-u|me|-p|***"),
            (&["curl", "-u", "me:x", "https://host"], "curl|-u|me:***|https://host"),
            (&["curl", "-ume:x", "--proxy-user", "p:y"], "curl|-ume:***|--proxy-user|p:***"),
            (&["curl", "https://me:x@host/path"], "curl|https://me:***@host/path"),
            (&["app", "postgres://me:p@ss/w@host:5432/db"], "app|postgres://me:***@host:5432/db"),
            (&["app", "--url=amqp://:x@host"], "app|--url=amqp://:***@host"),
            (&["curl", "-H", "Authorization: Bearer abc.def"], "curl|-H|Authorization: ***"),
            (&["curl", "-H", "X-Api-Key:abc"], "curl|-H|X-Api-Key:***"),
            (&["curl", "-H", "Cookie: a=b; c=d"], "curl|-H|Cookie: ***"),
            (&["curl", "https://host/a?token=abc&b=1"], "curl|https://host/a?token=***&b=1"),
            (&["app", "host=a password=b user=c"], "app|host=a password=*** user=c"),
            (&["app", "Server=a;Pwd=b;Uid=c"], "app|Server=a;Pwd=***;Uid=c"),
            (&["app", r#"{"user":"a","password":"b c"}"#], r#"app|{"user":"a","password":***}"#),
            (&["app", "AKIAIOSFODNN7EXAMPLE"], "app|***"),
            (
                &["git", "clone", "https://ghp_0123456789abcdefghijABCDEFGHIJ012345@github.com/a"],
                "git|clone|https://***@github.com/a",
            ),
            (&["app", "eyJhbGciOi.eyJzdWIi.c2ln"], "app|***"),
            (&["app", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n"], "app|***"),
            (&["sh", "-c", "mysql -psecret db < a.sql"], "sh|-c|mysql -p*** db < a.sql"),
            (&["sh", "-c", "PGPASSWORD=x psql"], "sh|-c|PGPASSWORD=***"),
            (&["sh", "-c", "exec app --token y; PGPASSWORD=x psql"], "sh|-c|exec app --token *** PGPASSWORD=*** psql"),
            (&["sh", "-c", "curl -H 'Authorization: Basic eDp5'  host"], "sh|-c|curl -H 'Authorization: ***'  host"),
            (&["openssl", "req", "-passin", "pass:x"], "openssl|req|-passin|***"),
            (&["app", "--password"], "app|--password"),
        ] {
            assert_eq!(masked(args), want, "{args:?}");
        }
    }

    #[test]
    fn the_rest_stays() {
        for args in [
            &["nginx: worker process"][..],
            &["app", "--password-file=/run/secrets/db", "--token-path", "/var/x"],
            &["ssh", "-p", "22", "me@host"],
            &["docker", "run", "-p", "80:80", "image:1"],
            &["app", "--upstream", "auth:8080", "--listen", "http://host:8080/a@b"],
            &["curl", "-u", "me", "https://host:443/"],
            &["git", "clone", "ssh://git@github.com/a"],
            &["app", "--compass=north", "--author", "me"],
            &["mysql", "--port=3306", "db"],
            &[""],
            &[],
        ] {
            assert_eq!(masked(args), args.join("|"));
        }
    }
}

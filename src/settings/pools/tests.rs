use super::*;

fn wrong(line: &str) -> String {
    parse(line).expect_err(line).join("; ")
}

#[test]
fn pools_are_read_from_lines() {
    let text = "\n# ours\nname=fixed source=203.0.113.7,2001:db8::7 addresses=203.0.113.7 # one\n\
                name=far proxy=http://Proxy.internal:3128 user=u password_file=/f\n\
                name=default proxy=socks5://[::1]:1080 cert_file=/c key_file=/k addresses=10.0.0.0/8,::1\n";
    let pools = parse(text).unwrap();
    let names: Vec<_> = pools.iter().map(|line| line.pool.name.as_str()).collect();
    assert_eq!(names, ["fixed", "far", "default"]);
    let source = WayLine::Source("203.0.113.7".parse().ok(), "2001:db8::7".parse().ok());
    assert_eq!(pools[0].way, source);
    assert_eq!(pools[0].pool.addresses, ["203.0.113.7/32".parse::<IpNet>().unwrap()]);
    let WayLine::Proxy { kind, host, port, login } = &pools[1].way else { panic!("no proxy") };
    assert_eq!((*kind, host.as_str(), *port), (ProxyKind::Connect, "proxy.internal", 3128));
    assert_eq!(*login, Some(("u".to_owned(), "/f".into())));
    let WayLine::Proxy { kind, host, .. } = &pools[2].way else { panic!("no proxy") };
    assert_eq!((*kind, host.as_str()), (ProxyKind::Socks5, "::1"));
    assert_eq!(pools[2].identity, Some(("/c".into(), "/k".into())));
}

#[test]
fn every_wrong_line_is_told_with_its_rule() {
    for (line, rule) in [
        ("source=1.2.3.4", "name must be set"),
        ("name=a b", "every field must be key=value"),
        ("name=a/b", "name must be 1 to 64"),
        ("name=a colour=red", "there is no key colour"),
        ("name=a name=b", "name must have one value"),
        ("name=a source=", "source must have one value"),
        ("name=a source=host", "must be an address"),
        ("name=a source=1.2.3.4,1.2.3.5", "one address of each family"),
        ("name=a source=1.2.3.4 proxy=http://h:1", "exclude each other"),
        ("name=a proxy=https://h:1", "http://HOST:PORT"),
        ("name=a proxy=http://h", "http://HOST:PORT"),
        ("name=a proxy=http://u:p@h:1", "http://HOST:PORT"),
        ("name=a proxy=socks5://h:0", "http://HOST:PORT"),
        ("name=a proxy=http://h:1 user=u", "user and password_file"),
        ("name=a user=u password_file=f", "user wants a proxy"),
        ("name=a proxy=http://h:1 user=a:b password_file=f", "without a colon"),
        ("name=a cert_file=c", "cert_file and key_file"),
        ("name=a addresses=here", "must be an address or a network"),
        ("name=a\nname=a", "line 2: the pool a stands twice"),
    ] {
        let told = wrong(line);
        assert!(told.contains(rule), "{line}: {told}");
    }
    let many: String = (0..=POOLS_MAX).map(|n| format!("name=p{n}\n")).collect();
    assert!(wrong(&many).contains("64 pools at most"));
}

#[test]
fn files_of_passwords_are_read_by_who_sends() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let line = format!("name=a proxy=http://h:1 user=u password_file={}", file.display());
    let pool = parse(&line).unwrap().remove(0);
    assert!(format!("{:#}", pool.open().unwrap_err()).contains("pool a: cannot read"));
    for bad in ["", "canary\ncanary\n"] {
        std::fs::write(&file, bad).unwrap();
        let told = format!("{:#}", pool.open().unwrap_err());
        assert!(told.contains("one line") && !told.contains("canary"), "{told}");
    }
    std::fs::write(&file, "canary\n").unwrap();
    let options = pool.open().unwrap();
    assert!(!format!("{options:?}").contains("canary"));
    let Via::Proxy(ProxyOptions { login: Some(login), .. }) = options.via else { panic!("none") };
    assert_eq!(login.password.as_str(), "canary");
}

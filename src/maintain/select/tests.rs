use super::Exclude;

#[test]
fn patterns_are_compared_with_names_and_paths() {
    let cases: [(&str, &[&str], &[&str]); 9] = [
        (
            "*.tmp",
            &["/a.tmp", "/d/e/.tmp", "/x.tmp/below"],
            &["/a.tmpx", "/tmp"],
        ),
        (
            "cache/",
            &["/cache", "/a/cache/b"],
            &["/caches", "/a/mycache"],
        ),
        (
            "/cache",
            &["/cache", "/cache/b/c"],
            &["/a/cache", "/cached"],
        ),
        ("a/b", &["/a/b", "/a/b/c"], &["/x/a/b", "/a/bc", "/a"]),
        ("a/*/c", &["/a/b/c", "/a/bb/c/d"], &["/a/b/b/c", "/a/c"]),
        (
            "a/**/c",
            &["/a/b/c", "/a/b/b/c", "/a/b/c/d"],
            &["/a/c", "/b/a/x/c"],
        ),
        ("/**/*.o", &["/a/b/c.o", "/a/c.o"], &["/c.op", "/a/c.p"]),
        ("?x", &["/ax", "/b/cx"], &["/x", "/aax"]),
        (
            "*a*b*c",
            &["/xaybzc", "/abc", "/abcabc"],
            &["/acb", "/ab/c"],
        ),
    ];
    for (pattern, yes, no) in cases {
        let exclude = Exclude::new([pattern]);
        for path in yes {
            assert!(
                exclude.matches(path.as_bytes()),
                "{pattern} leaves {path} in"
            );
        }
        for path in no {
            assert!(
                !exclude.matches(path.as_bytes()),
                "{pattern} leaves {path} out"
            );
        }
    }
    assert!(Exclude::new(["", "/", "//"]).is_empty());
    assert!(!Exclude::default().matches(b"/a"));
    // Neither a stack nor a day.
    let many = Exclude::new(["*a".repeat(100) + "b"]);
    assert!(!many.matches(("/".to_owned() + &"a".repeat(255)).as_bytes()));
}

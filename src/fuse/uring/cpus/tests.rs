use super::*;

#[test]
fn lists_as_the_kernel_writes_them() {
    assert_eq!(parse("0\n"), Some(vec![0]));
    assert_eq!(parse("0-1\n"), Some(vec![0, 1]));
    assert_eq!(parse("0-1,4,6-7\n"), Some(vec![0, 1, 4, 6, 7]));
    for bad in ["", "a", "1-", "3-2", "0,,1", "-1", "70000", "0-65535"] {
        assert_eq!(parse(bad), None, "{bad}");
    }
}

#[test]
fn this_machine_has_a_queue_for_each_processor() {
    let cpus = Cpus::look().unwrap();
    assert!(!cpus.online.is_empty());
    assert_eq!(
        cpus.online.len() + cpus.offline().len(),
        usize::from(cpus.queues)
    );
}

//! `agentmux config show`: what counts and where it was said.

use crate::*;

fn setting(house: &House, arguments: &[&str], key: &str) -> Value {
    let all = versioned(
        &house.run(&[&["config", "show", "--origin", "--json"], arguments].concat()),
        &["settings"],
    );
    let found = all["settings"].as_array().into_iter().flatten().find(|setting| setting["key"] == key);
    found.unwrap_or_else(|| panic!("{key} in {all}")).clone()
}

/// Flag, environment, project, person, default: the first that speaks counts, and is named.
#[test]
fn every_setting_says_where_it_was_said() {
    let house = House::new();
    let of = |key: &str| {
        let found = setting(&house, &[], key);
        (found["value"].clone(), found["origin"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(of("idle_exit"), ("30m".into(), "default".to_owned()));
    let config = house.config_dir().join("config.toml");
    std::fs::write(&config, "idle_exit = \"1h\"\n[groups]\nall_of_us = [\"ann\"]\n").expect("writable");
    assert_eq!(of("idle_exit"), ("1h".into(), config.display().to_string()));
    let project = house.project().join("agentmux.toml");
    std::fs::write(
        &project,
        "bundle = \"web\"\n[groups]\nall_of_us = [\"bob\"]\n[sessions.ann]\n model = \"m\"\n",
    )
    .expect("writable");
    assert_eq!(of("groups.all_of_us"), (serde_json::json!(["bob"]), project.display().to_string()));
    let model = setting(&house, &[], "sessions.ann.model");
    assert_eq!((&model["value"], &model["counts"]), (&"m".into(), &false.into()), "not before it is trusted");
    let call = house.call(&["config", "show", "--json"]).without_env("AGENTMUX_BUNDLE").run().ok().json();
    let bundle = call["settings"].as_array().into_iter().flatten().find(|setting| setting["key"] == "bundle");
    assert_eq!(bundle.map(|bundle| &bundle["origin"]), Some(&project.display().to_string().into()));
    assert_eq!(of("bundle"), ("test".into(), "AGENTMUX_BUNDLE".to_owned()));
    assert_eq!(setting(&house, &["-b", "api"], "bundle")["origin"], "--bundle");
    assert_eq!(setting(&house, &["--no-start"], "no_start")["origin"], "--no-start");
    let people = house.run(&["config", "show", "--origin"]).ok().stdout;
    assert!(people.contains("sessions.ann.model = \"m\"") && people.contains("not trusted"), "{people}");
    let _ = house.run(&["trust"]).ok();
    assert_eq!(setting(&house, &[], "sessions.ann.model")["counts"], true);
    let _ = refused(house.run(&["config"]), 2);
}

"""What runs each command of the docs; `test_commands.py` holds the docs and this table together."""

from __future__ import annotations

# Run by tests/docs/test_walked_pages.py, page by page and in the order of the page, in a copy of the project: the
# command as the page has it, and as the toy environment has it (None: as it stands).
RUN_HERE: dict[str, dict[str, str | None]] = {
    "docs/own_bars.md": {
        "kedro run --pipelines ingest,features --env nq --params bars=my_bars.csv": None,
    },
    "docs/tutorial.md": {
        "make demo": "make -o .venv/.installed demo ARGS='--env test --params train.epochs=1'",
        "source .venv/bin/activate": None,
        "kedro run --pipelines forecast": "kedro run --pipelines forecast --env test",
    },
    "docs/gpu.md": {
        'python -c "import torch; print(torch.__version__, torch.cuda.is_available())"': None,
    },
    "docs/another_instrument.md": {
        "mkdir conf/es": None,
        "cp conf/nq/*.yml conf/es/": None,
        "sed -i.bak 's#/nq$#/es#' conf/es/globals.yml && rm conf/es/globals.yml.bak": None,
        "kedro run --pipelines ingest,features --env es --params bars=es.csv": None,
    },
}

_TOY = "tests/test_run.py::test_the_whole_road_ends_in_scores_for_every_forecaster"
_AGAIN = "tests/test_run.py::test_same_seed_same_metrics_and_train_needs_features_alone"
_SCORING = "tests/test_run.py::test_every_scoring_of_the_test_split_is_counted"
_BACKTEST = "tests/test_run.py::test_a_backtest_trades_the_test_split_and_counts_as_a_use_of_it"
_VIZ = "tests/test_tools.py::test_viz_shows_the_pipelines_before_anything_has_run"
_BARS = "tests/test_real_bars.py::test_a_csv_export_gives_the_same_features"
_FORECAST = (
    "tests/pipelines/test_forecast_run.py::test_the_pipeline_writes_table_picture_and_page_and_prints_the_forecast"
)
_FOLDS = "tests/pipelines/test_experiment_runs.py::test_all_folds_join_into_one_scored_record"
_VERDICT = "tests/pipelines/test_experiment_runs.py::test_a_verdict_is_held_to_what_was_registered_and_answered_once"
_ABLATION = "tests/pipelines/test_experiment_runs.py::test_ablations_end_in_a_table_with_an_interval_for_every_variant"
_TUNE = "tests/pipelines/test_tuning_run.py::test_the_same_command_goes_on_and_a_cut_trial_is_replaced"
_PROOF = "tests/experiments/test_leak_proof.py::test_the_simulated_market_is_proved_in_every_half"
_RESUME = "tests/faults/test_killing.py::test_twenty_killed_runs_go_on_to_twenty_bit_equal_ends"
_CHAMPION = "tests/tracking/test_registry.py::test_a_served_model_answers_a_request_with_the_forecast_of_the_checkpoint"
_HORIZONS = "tests/test_horizons.py::test_the_whole_road_takes_horizons_of_a_users_choice"
_PATHS = (
    "tests/forecast/test_forecaster.py::"
    "test_joint_paths_have_the_forecasts_quantiles_as_margins_and_end_with_the_session"
)
_WATCH = "tests/live/test_watch.py::test_every_bar_gets_the_forecast_that_the_whole_history_gives"
_POOL = (
    "tests/pipelines/test_many_symbols_run.py::test_a_folder_of_symbols_trains_as_one_and_forecasts_each_and_a_new_one"
)
_HERE = "tests/docs/test_walked_pages.py::test_the_tutorial_ends_in_a_report_a_forecast_and_a_tracked_run"
_MARKET = "tests/test_conf_layers.py::test_the_simulated_market_of_the_page_reaches_its_bars_and_its_truth_alike"
_KINDS = "tests/test_run.py::test_announcements_of_the_command_line_reach_the_network_and_its_forecasts"
_EVENTS = "tests/data/test_announcements.py::test_a_file_of_ones_own_is_one_more_kind_for_the_scale_and_its_forecasts"
_FOREIGN = "tests/symbols/test_foreign.py::test_a_network_is_told_of_another_market_and_a_forecast_says_if_absent"
_FILE = "tests/test_run.py::test_a_file_with_the_models_own_forecasts_is_scored_as_the_model_is"
_WHEEL = "tests/test_tools.py::test_the_packaged_wheel_runs_outside_the_checkout"
_SERVER = "tests/test_tools.py::test_a_server_on_loopback_runs_a_pipeline_and_answers_when_it_has_ended"
_GOLD = "tests/test_another_instrument.py::test_a_users_currency_bars_become_features_by_the_name_of_their_instrument"
_OWN = "tests/docs/test_extending.py::test_the_feature_of_the_page_trains_and_forecasts_and_no_module_changes"
_HOOKS = "tests/docs/test_hooks.py::test_the_hooks_pass_on_a_clean_tree_and_see_what_is_wrong"

# Commands that another test runs, or one like it: the same pipeline or target, other values. Several tests stand with a
# blank between them.
RUN_ELSEWHERE: dict[str, str] = {
    "kedro run --params bar_minutes=15": "tests/test_spacing.py",
    "kedro run --params bar_minutes=30": "tests/test_spacing.py",
    "kedro run": _TOY,
    "kedro run --params simulation.seed=11,simulation.leverage_deviation=0.3": _MARKET,
    "kedro run --env nq --params bars=FILE": _TOY,
    "kedro run --env nq --params bars=my_bars.csv": _TOY,
    "kedro run --env nq --params bars=FILE,features.own=es=es.parquet": _FOREIGN,
    "kedro run --pipelines forecast --env nq --params bars=FILE,features.own=es=es.parquet": _FOREIGN,
    "kedro run --env nq --params bars=FILE,scale.announcements=none": _KINDS,
    "kedro run --env nq --params bars=FILE,scale.announcements=fomc+employment+cpi": _KINDS,
    "kedro run --env nq --params bars=FILE,scale.announcements=fomc+employment+mine/opec.csv": _EVENTS,
    "kedro run --env es --params bars=es.csv": _TOY,
    "kedro run --params horizons=5m+45m+close+1d": _HORIZONS,
    "kedro run --params horizons=15m+2h,quantiles=.005+.05+.25+.5+.75+.95+.995": _HORIZONS,
    "nqcast watch bars.csv": _WATCH,
    "kedro run --pipelines forecast --params forecast.paths=1000": _PATHS,
    "kedro run --pipelines train_many --env nq --params bars=FOLDER": _POOL,
    "kedro run --pipelines forecast_many --env nq --params bars=FOLDER": _POOL,
    "kedro run --params rebuild=true": "tests/hooks/test_unchanged.py::test_what_is_made_anew_is_what_was_kept",
    "kedro run --from-nodes predict_test": "tests/test_run.py::test_a_run_can_start_in_the_middle",
    "kedro run --pipelines ingest,features --env nq --params bars=FILE": _BARS,
    "kedro run --pipelines ingest,features --env nq --params bars=my_bars.csv,features.volume=false,"
    "ingest.max_quarantined_share=0.02": "tests/test_real_bars.py::test_a_five_minute_file_without_volume_is_taken",
    "kedro run --pipelines ingest,features --env nq --params bars=gold.parquet,instrument=GC": _GOLD,
    "kedro run --pipelines ingest,features --env nq --params bars=eurusd.parquet,instrument=EURUSD,"
    "ingest.volume=false,features.volume=false": _GOLD,
    "kedro run --pipelines ingest,features --env nq --params bars=nq.dbn.zst": (
        "tests/test_real_bars.py::test_databento_files_go_through_ingest_and_features"
    ),
    "nqcast check my_bars.csv": (
        "tests/market/test_vendor_page.py::test_check_is_a_word_of_the_command_and_needs_neither_kedro_nor_torch"
    ),
    "kedro run --pipelines train": _AGAIN,
    "kedro run --pipelines train --params train.resume=never": _AGAIN,
    "kedro run --pipelines train --params train.epochs=2,model.size=test": _AGAIN,
    "kedro run --pipelines train --params train.epochs=6": _AGAIN,
    "kedro run --pipelines train --params train.every_minutes=2": (
        "tests/training/test_trainer.py::test_checkpoints_by_time_are_written_inside_an_epoch"
    ),
    "kedro run --pipelines train,evaluate --params train.seed=1": (
        "tests/test_run.py::test_the_calibration_is_of_the_checkpoint_beside_it_and_of_no_other"
    ),
    "kedro run --pipelines features,train,evaluate --params features.own=mine/close_location.py": f"{_OWN} {_TOY}",
    "kedro run --pipelines evaluate": f"{_SCORING} tests/test_run.py::test_a_run_can_start_in_the_middle",
    "kedro run --pipelines evaluate --params evaluate.baselines=full": (
        f"{_SCORING} "
        "tests/evaluation/test_baselines.py::test_garch_is_calibrated_on_a_garch_market_and_follows_its_volatility "
        "tests/evaluation/test_baselines.py::test_lightgbm_learns_what_only_a_feature_says"
    ),
    "kedro run --pipelines forecast": _FORECAST,
    "kedro run --pipelines forecast --env nq --params bars=FILE": _FORECAST,
    "kedro run --pipelines forecast --env nq --params bars=my_bars.csv": _FORECAST,
    "kedro run --pipelines forecast --env es --params bars=es.csv": _FORECAST,
    "kedro run --pipelines forecast --env nq --params bars=FILE,forecast.max_age_minutes=10": (
        "tests/pipelines/test_forecast_run.py::test_a_refusal_ends_the_run_with_its_reason"
    ),
    "kedro run --pipelines forecast --params forecast.as_of=2020-01-15T15:00:00Z": (
        "tests/pipelines/test_forecast_run.py::test_a_refusal_ends_the_run_with_its_reason"
    ),
    "kedro run --pipelines sweep --env nq --params bars=FILE": (
        "tests/pipelines/test_forecast_run.py::test_a_sweep_writes_every_anchor_of_the_file"
    ),
    "kedro run --pipelines update --env nq --params bars=FILE": (
        "tests/pipelines/test_update_run.py::test_new_bars_are_taken_once_and_the_better_version_stays"
    ),
    "kedro run --pipelines features_many --params bars=FOLDER": (
        "tests/symbols/test_features_many.py::test_processes_give_the_bits_of_one_symbol_and_what_is_done_is_skipped"
    ),
    "kedro run --pipelines evaluate --params evaluate.explain_anchors=2000": _SCORING,
    "kedro run --pipelines evaluate --params evaluate.explain_anchors=0": (
        f"{_SCORING} tests/forecast/test_explain.py::test_looking_can_be_switched_off"
    ),
    "kedro run --pipelines backtest": _BACKTEST,
    "kedro run --pipelines backtest --env nq": _BACKTEST,
    "kedro run --pipelines backtest --params backtest.positions=netted,backtest.slippage_ticks=2": _BACKTEST,
    "kedro run --pipelines backtest_walk_forward": (
        "tests/pipelines/test_experiment_runs.py::test_the_record_of_all_folds_can_be_traded"
    ),
    "kedro run --pipelines monitor --env nq --params bars=FILE": (
        "tests/pipelines/test_monitor_run.py::test_bars_of_the_same_law_pass_and_nothing_that_training_left_is_touched"
    ),
    "kedro run --pipelines walk_forward": _FOLDS,
    "kedro run --pipelines register": _VERDICT,
    "kedro run --pipelines verdict": _VERDICT,
    "kedro run --pipelines walk_forward --env nq --params bars=FILE": _FOLDS,
    "kedro run --pipelines walk_forward --params walk_forward.mode=rolling,walk_forward.folds=6": _FOLDS,
    "kedro run --pipelines ablation": _ABLATION,
    "kedro run --pipelines ablation --params ablation.train.epochs=6": _ABLATION,
    "kedro run --pipelines tune --params tune.trials=5": _TUNE,
    "kedro run --pipelines tune --params tune.trials=20": _TUNE,
    "kedro run --pipelines train --config data/06_models/tuned_parameters.yml": (
        "tests/pipelines/test_tuning_run.py::test_train_takes_the_best_parameters_from_their_file"
    ),
    "kedro run --pipelines score_file --env nq --params predictions=FILE": _FILE,
    "kedro run --pipelines score_file --env nq --params predictions=FILE,score_file.values=price": (
        f"{_FILE} "
        "tests/evaluation/test_given_forecasts.py::test_rows_in_any_order_stamps_of_the_issue_and_prices_mean_the_same"
    ),
    "kedro run --params model.tokens=false,train.epochs=3": _TOY,
    "kedro run --pipelines train --config my_run.yml": (
        "tests/pipelines/test_tuning_run.py::test_train_takes_the_best_parameters_from_their_file"
    ),
    "kedro package": _WHEEL,
    "nqcast --conf-source dist/conf-nqcast.tar.gz --env test --pipelines ingest,features": _WHEEL,
    "kedro server start --port 8000": _SERVER,
    "curl -H 'Content-Type: application/json' -d '{\"pipeline_names\": [\"forecast\"]}' "
    "http://127.0.0.1:8000/run": _SERVER,
    "kedro viz run": _VIZ,
    "kedro jupyter lab": "tests/test_jupyter.py::test_a_kernel_of_kedro_jupyter_has_the_catalog_ready",
    "make demo": _TOY,
    "make mlflow": _HERE,
    "make docs": "tests/docs/test_site.py::test_the_site_is_built_without_network_torch_or_warning",
    "make replay-metrics": (
        "tests/tracking/test_with_mlflow.py::test_what_an_outage_in_mid_run_held_back_arrives_once_by_replay"
    ),
    "make prove-no-leak": _PROOF,
    "make prove-no-leak bars=FILE": _PROOF,
    "make soak": _RESUME,
    "python -m nqcast.forecast.export data/06_models/checkpoint network.pt2": (
        "tests/forecast/test_export.py::test_the_command_exports_the_newest_checkpoint"
    ),
    "python -m nqcast.forecast.export data/06_models/checkpoint network.onnx": (
        "tests/forecast/test_onnx_file.py::test_the_ending_of_the_file_chooses_the_format"
    ),
    "export MLFLOW_TRACKING_URI=sqlite:///data/09_tracking/mlflow.db": _CHAMPION,
    "mlflow models serve -m models:/nqcast@champion --env-manager local --host 127.0.0.1 --port 5001": _CHAMPION,
    "curl -H 'Content-Type: application/json' -d @request.json http://127.0.0.1:5001/invocations": _CHAMPION,
    "python -m pytest -q tests/evaluation/test_baselines.py": (
        "tests/docs/test_extending.py::test_the_baseline_of_the_page_can_be_asked_for_by_name"
    ),
    "python -m pytest -q tests/data/test_targets.py": "tests/data/test_targets.py",
    "source .venv/bin/activate": _HERE,
    "pre-commit install": _HOOKS,
}

# Blocks of Python: run here after the tutorial, or by another test.
PYTHON_AFTER_THE_TUTORIAL = ("README.md", "docs/forecast_and_serve.md", "docs/score_your_forecasts.md")
PYTHON_ELSEWHERE = {
    "docs/add_a_feature.md": _OWN,
    "docs/explain.md": "tests/forecast/test_explain.py::test_a_checkpoint_is_explained_at_a_bounded_sample",
    "docs/add_a_baseline.md": "tests/docs/test_extending.py::test_the_baseline_of_the_page_can_be_asked_for_by_name",
    "notebooks/README.md": "tests/test_jupyter.py::test_a_kernel_of_kedro_jupyter_has_the_catalog_ready",
}

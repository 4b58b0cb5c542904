"""Films where there is OpenGL; a sentence that helps where there is none."""

import sys

import imageio
import pytest
from tiny_runs import tiny

from kfcpo_lib import films
from kfcpo_lib.records import TrainConfig
from kfcpo_lib.training import train


def a_goal_run(folder):
    config = TrainConfig(
        num_envs=1, steps_per_epoch=20, total_steps=20, hidden_sizes=(4,), run_dir=str(folder),
        critic_passes=1, rule={"minibatch_size": 20}, policy_snapshots=0, env_threads=1,
    )  # fmt: skip
    list(train(config))
    return folder


def test_without_opengl_it_says_what_was_tried_and_what_helps(tmp_path, monkeypatch):
    tried = []

    def no_job(environ, **settings):
        tried.append(environ)
        return {"event": "failed", "words": "no display"}

    monkeypatch.setattr(films, "_run_job", no_job)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    run = a_goal_run(tmp_path)
    with pytest.raises(films.NoFilmError, match=r"egl: no display; osmesa: no display.*libegl1"):
        films.film(run)
    assert tried == [{"MUJOCO_GL": "egl"}, {"MUJOCO_GL": "osmesa"}]
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(films.NoFilmError, match="glfw: no display"):
        films.film(run)


def test_only_tasks_of_safety_gymnasium_are_filmed(tmp_path):
    list(train(tiny(tmp_path, total_steps=200)))
    with pytest.raises(ValueError, match="PointMass-v0 has no film"):
        films.film(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"actions": "meen"}, "actions must be sampled or mean, got 'meen'"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"size": -5}, "size must be at least 1, got -5"),
    ],
)
def test_wrong_words_are_not_taken_for_missing_opengl(words, message, tmp_path, monkeypatch):
    monkeypatch.setattr(films, "_run_job", lambda *_, **__: pytest.fail("a job was started"))
    with pytest.raises(ValueError, match=message):
        films.film(a_goal_run(tmp_path), **words)


@pytest.mark.full
def test_a_film_has_a_picture_for_every_so_many_steps(tmp_path):
    try:
        film = films.film(a_goal_run(tmp_path / "run"), steps=20, every=5, size=64)
    except films.NoFilmError as reason:
        pytest.skip(str(reason))
    (tmp_path / "film.mp4").write_bytes(film)
    with imageio.get_reader(tmp_path / "film.mp4") as frames:
        pictures = list(frames.iter_data())
    assert len(pictures) == 5
    assert pictures[0].shape == (64, 64, 3)
    assert (pictures[0] != pictures[-1]).any()

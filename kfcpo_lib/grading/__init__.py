"""Grade a folder of students' notebooks: `python -m kfcpo_lib grade FOLDER`.

A student's code runs in a process of its own (`student.py`, behind `fence.py`), the checks in
the teacher's (`grades.py`). Between the two (`submission.py`) go fresh inputs one way, and plain
numbers the other way (`wire.py`).
"""

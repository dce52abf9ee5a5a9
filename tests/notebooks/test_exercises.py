"""Every exercise of a lesson fails as it is handed out, and passes as it is solved in notebooks/solutions."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

from difftuning.lessons.exercises import EXERCISES, grade, load_checkers

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))


def code_cells(path: Path) -> list[str]:
    """Sources without lines that are IPython's own."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return ["\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))) for source in cells]


def graded(source: str) -> list[str]:
    """Names of the exercises that a cell grades."""
    try:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except SyntaxError:  # the bootstrap, whose `if` holds nothing but a magic line
        return []
    return [ast.literal_eval(call.args[0]) for call in calls if isinstance(call.func, ast.Name) and call.func.id == "grade"]


def exercises(path: Path) -> set[str]:
    return {name for source in code_cells(path) for name in graded(source)}


def answers(path: Path) -> dict[str, object]:
    """Execute a notebook's imports and the cells that grade, and nothing else; the function handed in for each exercise."""
    handed: dict[str, object] = {}
    space = {"__name__": "exercises"}
    for source in code_cells(path):
        if graded(source):
            space["grade"] = lambda name, answer: handed.setdefault(name, answer) and grade(name, answer)
            exec(compile(source, path.name, "exec"), space)
            continue
        try:
            imports = [node for node in ast.parse(source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        except SyntaxError:
            continue
        exec(compile(ast.Module(imports, []), path.name, "exec"), space)
    return handed


def asserted(source: str) -> set[str]:
    """Exercises of which a cell asserts that they passed: `assert grade(name, answer).passed`."""
    tests = [node.test for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    return {name for test in tests if isinstance(test, ast.Attribute) and test.attr == "passed" for name in graded(ast.unparse(test))}


def test_there_are_lessons():
    assert LESSONS


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_exercises_and_each_has_a_checker(path):
    load_checkers()
    assert exercises(path), "a lesson ends with an exercise that grades itself"
    assert exercises(path) <= set(EXERCISES)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_what_a_lesson_hands_out_is_not_solved_yet(path):
    handed = answers(path)
    assert set(handed) == exercises(path)
    for name, answer in handed.items():
        found = grade(name, answer)
        assert not found.passed, f"{name} is solved in the lesson"
        assert found.message.startswith("not written yet"), f"the stub of {name} says: {found.message}"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_exercise_of_a_lesson_has_a_solution_that_must_pass(path):
    solution = NOTEBOOKS / "solutions" / path.name
    assert solution.is_file()
    assert exercises(solution) == exercises(path)
    assert {name for source in code_cells(solution) if graded(source) for name in asserted(source)} == exercises(path)


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_a_solution_belongs_to_a_lesson(path):
    assert (NOTEBOOKS / path.name).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_pass(path, executed_lessons):
    """The notebook asserts each grade, so running to the end is passing; what it shows are ticks, too."""
    executed = nbformat.read(executed_lessons.of(path).notebook(), as_version=4)
    shown = [
        output.data["text/plain"] for cell in executed.cells for output in cell.get("outputs", []) if "text/plain" in output.get("data", {})
    ]
    assert not [text for text in shown if text.startswith("✗")]


def test_a_solved_lesson_and_an_unsolved_solution_are_caught(tmp_path):
    """The checks above, on notebooks that break them."""
    stub = 'def mine(law):\n    {}\n\ngrade("equivalent weights", mine)'
    for line, passed in (("...", False), ("return len(law) * law", True)):
        cells = [nbformat.v4.new_code_cell(source) for source in ("from difftuning.lessons.exercises import grade", stub.format(line))]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "lesson.ipynb")
        assert grade("equivalent weights", answers(tmp_path / "lesson.ipynb")["equivalent weights"]).passed is passed
    assert asserted(stub.format("...")) == set()
    assert asserted('assert grade("equivalent weights", mine).passed') == {"equivalent weights"}
    assert asserted('assert grade("equivalent weights", mine)') == set()

"""Pages of measurements say what the results in benchmarks/results say, and nothing else."""

import json

import pytest

# nnU-Net's and its dependencies', when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def results(repo):
    """Function that reads the results of a kind."""

    def _results(pattern: str) -> list:
        files = sorted((repo / "benchmarks" / "results").glob(pattern))
        assert files, f"benchmarks/results has no {pattern}"
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]

    return _results


def test_the_page_of_benchmarks(repo, load_benchmark, results):
    page = (repo / "documentation" / "benchmarks.md").read_text(encoding="utf-8")
    again = (
        "Run: python benchmarks/results_page.py benchmarks/results -o documentation/benchmarks.md"
    )
    assert load_benchmark("results_page").page(results("*.json")) == page, again


@pytest.mark.parametrize("name", ["accuracy", "accuracy-long"])
def test_pages_of_accuracy(repo, load_benchmark, results, name):
    page = (repo / "documentation" / f"{name}.md").read_text(encoding="utf-8")
    (result,) = results(f"{name}.json")
    figures = {label: f"images/{name}-{label}.svg" for label in result["sets"]}
    text = load_benchmark("accuracy_page").markdown(result, figures)
    _, begun, rest = page.partition("<!-- accuracy: begin -->\n")
    assert begun
    assert rest.partition("<!-- accuracy: end -->")[0] == text


@pytest.mark.parametrize("name", ["accuracy", "accuracy-long"])
def test_means_and_differences_follow_from_the_trainings(load_benchmark, results, name):
    (result,) = results(f"{name}.json")
    again = load_benchmark("accuracy_report").summarise(
        {key: value for key, value in result.items() if key not in ("means", "pairs")}
    )
    assert again["means"] == result["means"]
    for key in ("difference", "low", "high"):
        here, there = ([pair[key] for pair in one["pairs"]] for one in (again, result))
        assert here == pytest.approx(there, abs=1e-6)

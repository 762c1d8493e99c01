"""The metrics of a controller, as a scrape gives them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.support.web import ask

Sample = tuple[str, tuple[tuple[str, str], ...]]


class Scraped:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: dict[Sample, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value

    @classmethod
    def of(cls, port: int) -> Scraped:
        answer = ask(port, "/metrics")
        assert answer.status == 200, answer.text
        return cls(answer.text)

    def get(self, name: str, **labels: str) -> float | None:
        """The value of one series; None where there is none."""
        return self.samples.get((name, tuple(sorted(labels.items()))))

    def __getitem__(self, name: str) -> float:
        """The value of the series without labels."""
        return self.samples[name, ()]

    def series(self, name: str) -> list[dict[str, str]]:
        """The labels of all series of this name."""
        return [dict(labels) for found, labels in self.samples if found == name]

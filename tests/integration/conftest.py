import pytest

from tests.integration.warm_train import WarmTrain


@pytest.fixture(scope="session")
def warm():
    process = WarmTrain()
    yield process
    process.close()

"""The conformance suite: pytest tests of every promise of `Provider`, for a provider's author to subclass.

    from multicompute.testing import ProviderConformance, ProviderHarness

    class TestMyCloud(ProviderConformance):
        @pytest.fixture
        def harness(self) -> Iterator[ProviderHarness]:
            with my_local_cloud() as cloud:
                yield MyHarness(cloud)

A test is skipped only if the provider does not declare the capability that it is about, or if its cloud has no such thing: the
method of the harness then raises NotImplementedError, with the reason.
"""

from multicompute.testing.conformance.suite import ProviderConformance as ProviderConformance

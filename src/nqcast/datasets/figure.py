"""Matplotlib figures as verified PNG files."""

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from kedro.io import DatasetError, Version
from kedro_datasets._typing import ImagePreview

from nqcast.datasets.base import VerifiedFileDataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class VerifiedFigureDataset(VerifiedFileDataset["Figure | np.ndarray"]):
    """Saves a matplotlib Figure as PNG; loads its pixels, float32 (height, width, 4) in 0…1."""

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        dpi: int = 120,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """
        Args:
            filepath: local path; with versions, the folder that holds them.
            version: set by Kedro for `versioned: true`.
            dpi: pixels per inch.
            metadata: anything for plugins; ignored here.
        """
        super().__init__(filepath=filepath, version=version, metadata=metadata)
        self._dpi = dpi

    def _encode(self, data: "Figure | np.ndarray") -> bytes:
        from matplotlib.figure import Figure

        if not isinstance(data, Figure):
            raise DatasetError(f"expected a matplotlib Figure, found {type(data).__name__}: return the figure itself")
        buffer = io.BytesIO()
        data.savefig(buffer, format="png", dpi=self._dpi, bbox_inches="tight", metadata={"Software": None})
        return buffer.getvalue()

    def _decode(self, content: bytes) -> np.ndarray:
        from matplotlib.image import imread

        return np.asarray(imread(io.BytesIO(content), format="png"))

    def preview(self) -> ImagePreview:
        """The picture in base64 for kedro-viz, or None while nothing has been saved."""
        content = self._preview_bytes()
        return None if content is None else ImagePreview(base64.b64encode(content).decode())

"""CTranslate2: its adapter, and how it serves requests that come and go."""

from calibration.backends.ctranslate2.adapter import CTranslate2Backend as CTranslate2Backend

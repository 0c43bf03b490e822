"""Options of the scenes recipe; the defaults are the recipe of the shipped checkpoint."""

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

from exeunt.export.families.ofa.config import OfaConfig
from exeunt.train.demo.scenes import GRID, IMAGE_PX
from exeunt.train.scenes.words import MAX_SOURCE_TOKENS, MAX_TARGET_TOKENS, vocabulary


class ScenesRecipe(BaseModel):
    """What `train_scenes` does: sizes, data mix, losses, and the two ablations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    threads: PositiveInt = 2

    hidden: PositiveInt = 128
    heads: PositiveInt = 4
    ffn: PositiveInt = 128
    encoder_layers: PositiveInt = 3
    decoder_layers: PositiveInt = 5
    stem_planes: tuple[PositiveInt, PositiveInt, PositiveInt] = (16, 32, 64)

    steps: PositiveInt = 2800
    num_scenes: PositiveInt = Field(64, description="of a step")
    statements_a_scene: PositiveInt = Field(8, description="on average")
    captions_a_scene: PositiveInt = 1
    warmup_steps: PositiveInt = 200
    matrix_lr: float = Field(0.02, gt=0, description="Muon, for the layers' matrices")
    vector_lr: float = Field(2e-3, gt=0, description="AdamW, for everything else")
    weight_decay: NonNegativeFloat = 0.02
    caption_weight: NonNegativeFloat = Field(
        0.1, description="of a caption, whose loss is a sum over its tokens, beside a statement"
    )

    decomposition: bool = Field(
        True, description="image and text lanes that do not see each other (MuE, Eq. 3)"
    )
    layer_wise_loss: bool = Field(
        True, description="every decoder layer learns the task (MuE, Eq. 12), else the last only"
    )
    exit_draw_share: float = Field(
        0.4,
        ge=0,
        le=1,
        description="rows that leave by cosine in training, at a drawn threshold; 0 is MuE's own",
    )
    saturation_weight: NonNegativeFloat = Field(
        0.1, description="of the loss that pulls successive layers' cosines to 1; 0 is MuE's own"
    )

    aid_weight: NonNegativeFloat = Field(1.0, description="of the auxiliary losses at the start")
    aid_share: float = Field(0.7, gt=0, le=1, description="of the steps, until they are 0")
    save_every_steps: PositiveInt = 100

    def model_config_of(self) -> OfaConfig:
        """Return the sizes of the model that this recipe trains."""
        return OfaConfig(
            hidden=self.hidden,
            ffn=self.ffn,
            heads=self.heads,
            encoder_layers=self.encoder_layers,
            decoder_layers=self.decoder_layers,
            vocab=len(vocabulary()),
            image_size=IMAGE_PX,
            image_bucket_size=GRID,
            token_bucket_size=MAX_SOURCE_TOKENS,
            max_source_length=MAX_SOURCE_TOKENS,
            max_source_positions=MAX_SOURCE_TOKENS,
            max_target_positions=MAX_TARGET_TOKENS,
            max_steps=MAX_TARGET_TOKENS,
            stem_blocks=(1, 1, 1),
            stem_planes=self.stem_planes,
            # These norms give every row's update the same length. Without them a layer can leave
            # a row as it is, which is what cosine exits look for.
            scale_attn=False,
            scale_fc=False,
            scale_heads=False,
            image_relative_bias=True,
        )
